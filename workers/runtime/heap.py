"""The heap of native code, which keeps what has been freed."""

from __future__ import annotations

import ctypes
from typing import Final

_MALLOC_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Gives free memory in glibc's heaps back; other C libraries do so by themselves or not at all."""
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)
