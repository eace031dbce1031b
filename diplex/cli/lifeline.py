"""Ties a child process to this one: it dies with us, even when we are killed without warning.

On Linux the kernel does it (prctl(2), PR_SET_PDEATHSIG). It has to be asked by the child itself, and doing
that between fork and exec would run Python in a copy of a process with threads. So this file is also a tiny
program: it makes the request and then becomes the command, under the same process id. The signal is sent
when the *thread* that started the child ends, so children are started from the main thread. Elsewhere
commands run as they are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def tied(argv: Sequence[str]) -> list[str]:
    """The command that runs ``argv`` and dies with the calling process."""
    if not sys.platform.startswith("linux"):
        return list(argv)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *argv]


def _become(parent: int, argv: list[str]) -> None:
    import ctypes  # noqa: PLC0415  # only the child needs it

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(1)
    os.execvp(argv[0], argv)  # noqa: S606  # becoming the command is the purpose


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
