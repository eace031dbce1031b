"""The KV cache of all slots: one key and one value array a layer, shared in place with the graph.

Slots change places, and their memory comes and goes, by the machine's page tables:

- the arrays are mapped, so a slot costs only the pages that its tokens have touched;
- ``swap`` moves the pages of two slots past each other (mremap, Linux 5.7 or newer), whatever they hold. The
  addresses stay, so bound runs and views stay valid;
- ``reserve`` makes pages before tokens are written, which costs a fraction of faulting on each of them;
- ``release`` hands pages back.

Where the kernel can't do one of these, plain copies and page faults take its place.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.runtime.artefact import ModelDescription

_NORESERVE: Final = 0x4000
"""MAP_NORESERVE of Linux: the address space is many times the memory that will be used."""
_DONTNEED: Final = 4
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE, Linux 5.14."""
_MOVE_PAGES: Final = 1 | 2 | 4
"""MREMAP_MAYMOVE, FIXED and DONTUNMAP: the pages move and the source stays mapped, now empty. So no range is
ever unmapped, not even for a moment in which another thread's mmap could take it."""
_LINUX: Final = sys.platform == "linux"
_RESERVED_AHEAD: Final = 64
"""Tokens that are made room for at a time."""
_STRIDE: Final = 39
"""Tokens, modulo those, by which the room of each slot ends behind that of the slot before it: streams that
began together would otherwise all want pages in one step. The golden section of 64 spreads any number."""


class KVCache:
    """Arrays ``[slots, kv_heads, length, head_dim]``, keyed by layer and kind, as ``0.key``.

    Args:
        description: The model.
        slots: Rows of the arrays.
        max_length: Tokens a slot must hold; ``length`` is that, rounded up to whole pages a head.
        dtype: Of the elements.
    """

    def __init__(
        self,
        description: ModelDescription,
        *,
        slots: int,
        max_length: int,
        dtype: np.dtype[Any] = np.dtype(np.float32),  # noqa: B008  # dtypes don't change
    ) -> None:
        token_bytes = description.head_dim * dtype.itemsize
        page_tokens = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, token_bytes)
        self.length: Final = -(-max_length // page_tokens) * page_tokens
        """Tokens that a slot has room for."""
        self._heads = description.kv_heads
        self._token_bytes = token_bytes
        self._reserved = [0] * slots  # slot -> tokens that it has pages for, in all layers
        self._touched = [0] * slots  # likewise, in any layer
        self._layers = description.layers
        # One slot more than is used: swaps go through it.
        shape = (slots + 1, description.kv_heads, self.length, description.head_dim)
        self._arrays = {
            f"{layer}.{half}": _mapped_zeros(shape, dtype)
            for layer in range(description.layers)
            for half in ("key", "value")
        }
        self._addresses = [array.ctypes.data for array in self._arrays.values()]
        self._head_bytes = self.length * token_bytes
        self._slot_bytes = self._heads * self._head_bytes
        self._spare = slots
        self._kernel = _Kernel()

    def rows(self, first: int, count: int) -> dict[str, NDArray[Any]]:
        """Views of ``count`` slots from ``first`` on: ``{"0.key": [count, heads, length, dim], …}``."""
        return {name: array[first : first + count] for name, array in self._arrays.items()}

    def swap(self, a: int, b: int) -> None:
        """Exchanges what two slots hold, in the time of some page tables: about a millisecond."""
        if self._kernel.moves:
            for address in self._addresses:
                here, there = address + a * self._slot_bytes, address + b * self._slot_bytes
                self._kernel.swap(here, there, address + self._spare * self._slot_bytes, self._slot_bytes)
        else:
            held = max(self._touched[a], self._touched[b])
            for array in self._arrays.values():
                kept = array[a, :, :held].copy()
                array[a, :, :held] = array[b, :, :held]
                array[b, :, :held] = kept
        for tokens in (self._reserved, self._touched):
            tokens[a], tokens[b] = tokens[b], tokens[a]

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copies tokens ``start … end-1`` of a slot to the same place in another."""
        self.reserve(target, end)
        for array in self._arrays.values():
            array[target, :, start:end] = array[source, :, start:end]

    def reserve(self, slot: int, tokens: int, layers: range | None = None) -> None:
        """Makes pages for a slot's first ``tokens`` tokens before they are written.

        Args:
            slot: Which.
            tokens: How many.
            layers: Where, if a run goes through some layers now and through the others, in order, later: the
                time that pages take is divided likewise. Everywhere by default.
        """
        reserved = self._reserved[slot]
        if tokens <= reserved:
            return
        layers = layers or range(self._layers)
        ahead = (slot * _STRIDE - tokens) % _RESERVED_AHEAD
        end = min(tokens + ahead, self.length)
        self._touched[slot] = max(self._touched[slot], end)
        if layers.stop == self._layers:
            self._reserved[slot] = end
        if self._kernel.populates:
            self._kernel.advise(self._ranges(slot, reserved, end, layers), _POPULATE_WRITE)

    def release(self, slot: int, keep: int) -> None:
        """Hands back the pages behind a slot's first ``keep`` tokens, which read as zeros afterwards."""
        if keep < self._touched[slot]:
            # What ends in the middle of a page keeps that page.
            self._kernel.advise(self._ranges(slot, keep, self.length, range(self._layers)), _DONTNEED)
            self._touched[slot] = keep
            self._reserved[slot] = min(self._reserved[slot], keep)

    def _ranges(self, slot: int, start: int, end: int, layers: range) -> Iterator[tuple[int, int]]:
        """Address and length of the whole pages behind token ``start`` as far as ``end`` reaches."""
        first, last = _up_to_page(start * self._token_bytes), _up_to_page(end * self._token_bytes)
        if first < last:
            for address in self._addresses[2 * layers.start : 2 * layers.stop]:
                for head in range(self._heads):
                    yield address + slot * self._slot_bytes + head * self._head_bytes + first, last - first


class _Kernel:
    """The calls that Python has no words for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.moves = _LINUX and hasattr(self._libc, "mremap")
        self.populates = _LINUX
        if self.moves:
            self._libc.mremap.restype = ctypes.c_void_p
            self._libc.mremap.argtypes = [
                *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
            ]
            self.moves = self._can_move()
        self._libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def swap(self, a: int, b: int, spare: int, size: int) -> None:
        """Exchanges the pages of two regions by way of a third, which is empty before and after."""
        self._move(a, spare, size)
        self._move(b, a, size)
        self._move(spare, b, size)

    def advise(self, ranges: Iterator[tuple[int, int]], advice: int) -> None:
        """Advises on address ranges. A kernel that doesn't know the advice goes on without."""
        for address, size in ranges:
            if self._libc.madvise(address, size, advice) != 0 and advice == _POPULATE_WRITE:
                self.populates = False
                return

    def _move(self, source: int, target: int, size: int) -> None:
        if self._libc.mremap(source, size, size, _MOVE_PAGES, target) != target:
            error = ctypes.get_errno()
            raise OSError(error, f"the KV cache's pages can't be moved: {os.strerror(error)}")

    def _can_move(self) -> bool:
        """Whether the kernel knows all the flags."""
        pages = mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        view = np.frombuffer(pages, np.uint8)
        view[0] = 1
        try:
            self._move(view.ctypes.data, view.ctypes.data + mmap.PAGESIZE, mmap.PAGESIZE)
        except OSError:
            return False
        return (int(view[0]), int(view[mmap.PAGESIZE])) == (0, 1)


def _up_to_page(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _mapped_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that take no memory before they are written to.

    Without huge pages: a head's part of a slot is about as large as one, so that a single token in each would
    make everything resident. Private, since pages of a shared mapping can't be handed back by MADV_DONTNEED
    and are allocated even when they are only read.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (_NORESERVE if _LINUX else 0)
    pages = mmap.mmap(-1, size, flags=flags)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(pages, dtype).reshape(shape)
