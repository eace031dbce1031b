"""``diplex config``: the gateway's own command, run beside this process."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from diplex import errors
from diplex.cli.worker_module import foreground

_MODULE = "gateway.configuration"


def run(file: Path | None, assignments: list[str], *, example: bool) -> int:
    """Prints the gateway's configuration; returns the exit code.

    Raises:
        DiplexError: The gateway isn't installed.
    """
    if any(find_spec(name) is None for name in ("gateway", "pydantic")):
        raise errors.DiplexError("this needs the gateway: pip install 'diplex[gateway]'")
    options = [f"--config={file}"] if file else []
    options += [f"--set={each}" for each in assignments]
    options += ["--example"] if example else []
    return foreground([sys.executable, "-m", _MODULE, *options])
