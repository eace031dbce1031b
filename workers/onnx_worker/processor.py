"""The processor that this process runs on."""

from __future__ import annotations

import platform
import sys
from functools import cache
from pathlib import Path
from typing import Final

_X86: Final = frozenset({"x86_64", "amd64"})
_COMPILED: Final = frozenset({
    "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512_vnni",
    "abm", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe",
})  # fmt: skip
"""What code for ``x86-64-v4`` (a level of https://gitlab.com/x86-psABIs/x86-64-ABI) and VNNI may use."""


def has_vnni() -> bool:
    """Whether the processor sums products of bytes in 32 bits; ``True`` also where it isn't an x86."""
    return not _is_x86() or bool({"avx512_vnni", "avx_vnni"} & _flags())


def runs_compiled() -> bool:
    """Whether it has the instructions of :mod:`workers.onnx_worker.compiled`; told from what Linux says."""
    return sys.platform == "linux" and _is_x86() and _flags() >= _COMPILED


def _is_x86() -> bool:
    return platform.machine().lower() in _X86


@cache
def _flags() -> frozenset[str]:
    """Of the first core; none where they can't be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
