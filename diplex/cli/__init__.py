"""The command line, ``diplex``: its commands stand in ``app`` and the modules that it takes them from."""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """Entry point of the ``diplex`` command."""
    if find_spec("typer") is None or find_spec("rich") is None:
        sys.exit("diplex: the command line needs its extra: pip install 'diplex[cli]'")
    from diplex.cli.app import app  # noqa: PLC0415  # it imports what was just looked for

    app()
