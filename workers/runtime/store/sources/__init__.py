"""The places that source artefacts come from: a module a kind, each with a context manager that delivers."""
