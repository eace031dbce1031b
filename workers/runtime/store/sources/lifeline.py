"""Runs pip in a process that ends with its parent.

A worker that is killed can't end its children, and a download of gigabytes should not go on for nobody. The
parent holds the other end of this process's standard input, which the system closes when the parent is gone.
"""

from __future__ import annotations

import os
import runpy
import threading


def main() -> None:
    """Be pip, with this process's arguments, as ``python -m pip`` would."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
