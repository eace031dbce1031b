"""Which process this is, and whether another one still lives."""

from __future__ import annotations

import os
from pathlib import Path


def own() -> str:
    """Names this process; no other ever has the same name, even if it gets the same number."""
    return _name(os.getpid()) or str(os.getpid())


def lives(name: str) -> bool:
    """Whether a process that :func:`own` named is still there."""
    return _name(int(name.partition("@")[0])) == name


def _name(pid: int) -> str | None:
    try:
        # The 22nd field is when it began; the second one, in parentheses, may have spaces in it.
        began = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19]
    except OSError:
        return None
    return f"{pid}@{began}"
