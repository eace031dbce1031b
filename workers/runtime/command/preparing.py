"""``pull`` and ``verify``: a worker's models in its store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from diplex.errors import UnsupportedFeature
from workers.runtime.command.kind import WorkerKind
from workers.runtime.command.models import Models
from workers.runtime.command.options import Accept, Home, Name, Overlays
from workers.runtime.fidelity.verdict import Verdict
from workers.runtime.progress_display import displayed

Command = Callable[..., None]


def pull_command(kind: WorkerKind) -> Command:
    """The command ``pull`` of a kind of worker."""

    def pull(name: Name, home: Home = None, catalogue: Overlays = "", accept_licence: Accept = None) -> None:
        """Download a model and convert it, as far as that isn't done yet.

        Where a model has terms to be agreed to, they are shown and asked for before the first download.

        A model that no catalogue knows is named hf:OWNER/NAME, hf:OWNER/NAME@REVISION,
        hf:OWNER/NAME/FILE.gguf or by its path. It is remembered, for workers of the same store.

        Example: python -m workers.onnx_worker pull SmolLM2-135M-Instruct
        """
        console = Console(stderr=True)
        models = Models.open(kind, home, catalogue, accept_licence)
        with displayed(console) as report:
            match = models.look_up(name, console, report)
        models.ask(match.entry, console)
        with displayed(console) as report:
            artefact = models.prepare(match.entry, match.profile, report)
        manifest = artefact.manifest
        console.print(
            f"{manifest.model}/{manifest.profile} is ready: sha256:{artefact.digest[:12]}, {artefact.folder}",
            highlight=False,
            soft_wrap=True,
        )

    return pull


def verify_command(kind: WorkerKind) -> Command:
    """The command ``verify`` of a kind of worker."""

    def verify(
        name: Name,
        home: Home = None,
        catalogue: Overlays = "",
        accept_licence: Accept = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,  # noqa: FBT002  # a flag
    ) -> None:
        """Check a model's files, and measure again how close they are to the float32 weights.

        Compares KL divergence, perplexity and top-1 agreement with the certificate of the catalogue.
        Ends with 1 when a file has changed or the fidelity is worse than certified.

        Example: python -m workers.onnx_worker verify SmolLM2-135M-Instruct
        """
        if kind.certify is None:
            raise UnsupportedFeature(f"the {kind.backend} worker can't measure fidelity yet")
        console = Console(stderr=True)
        models = Models.open(kind, home, catalogue, accept_licence)
        match = models.find(name)
        models.ask(match.entry, console)
        with displayed(console) as report:
            artefact = models.prepare(match.entry, match.profile, report)
            models.store.verify(artefact, report)
            source = models.store.source(match.entry, kind.backend, report)
            measured = kind.certify(artefact.folder, source, report)
        model = f"{artefact.manifest.model}/{artefact.manifest.profile}"
        verdict = Verdict(model, artefact.digest, measured, artefact.certificate)
        typer.echo(verdict.as_json() if as_json else verdict.as_text())
        raise typer.Exit(0 if verdict.holds else 1)

    return verify
