"""The KV cache of all slots: one key and one value array a layer, shared in place with the graph."""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.plan import Move


class KVCache:
    """Float32 arrays ``[slots, kv_heads, max_length, head_dim]``, keyed by the name of the graph's input.

    They are mapped, not allocated: a slot costs only the pages that its tokens have touched.
    """

    def __init__(self, description: ModelDescription, *, slots: int, max_length: int) -> None:
        shape = (slots, description.kv_heads, max_length, description.head_dim)
        self._arrays = {
            f"{layer}.{half}": _mapped_zeros(shape)
            for layer in range(description.layers)
            for half in ("key", "value")
        }

    def rows(self, first: int, count: int) -> dict[str, NDArray[np.float32]]:
        """Views of ``count`` slots from ``first`` on: ``{"0.key": [count, heads, length, dim], …}``."""
        return {name: array[first : first + count] for name, array in self._arrays.items()}

    def move(self, move: Move) -> None:
        """Copies a sequence's keys and values to another slot."""
        for array in self._arrays.values():
            array[move.target, :, : move.length] = array[move.source, :, : move.length]


def _mapped_zeros(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Zeros that take no memory before they are written to.

    Without huge pages: a head's part of a slot is about as large as one, so that a single token in each would
    make everything resident. Private, since pages of a shared mapping can't be handed back by MADV_DONTNEED
    and are allocated even when they are only read.
    """
    size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, np.float32).reshape(shape)
