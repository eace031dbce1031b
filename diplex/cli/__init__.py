"""The command line, ``diplex``: its commands stand in ``app`` and the modules that it takes them from."""

from __future__ import annotations

import sys

_EXTRA = frozenset({"httpx2", "prometheus_client", "prompt_toolkit", "rich", "typer"})


def main() -> None:
    """Entry point of the ``diplex`` command."""
    try:
        from diplex.cli.app import app  # noqa: PLC0415  # it imports what may be missing

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.exit(f"diplex: this needs {error.name}: pip install 'diplex[cli]'")
