"""Threads that compute steps together."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.object_file import Entry
from workers.onnx_worker.compiled.shapes import (
    COUNTER_BYTES,
    Constants,
    Rows,
    Scratch,
    Sizes,
    Weights,
    phases,
)

_COUNTERS: Final = 2
"""Of a phase: pieces claimed, pieces finished."""


def flattened(value: Any) -> Iterator[int]:
    """A number, an array or a tuple of them as numba passes it: each part in 64 bits."""
    if isinstance(value, np.ndarray):
        yield from (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
    elif isinstance(value, tuple):
        for part in value:
            yield from flattened(part)
    elif isinstance(value, np.float32):
        yield int(value.view(np.uint32))
    else:
        yield int(value)


class Room:
    """Working memory, and where it is."""

    def __init__(self, scratch: Scratch) -> None:
        self.scratch = scratch
        self.table = np.fromiter(flattened(scratch), np.int64)
        """As :class:`Team` hands it on."""


class Team:
    """The calling thread and some more, which sleep between steps.

    A step has counters of its own, so a thread that wakes up too late for it finds nothing to do in it and
    nobody has to wait for that.

    Args:
        entry: The compiled functions.
        threads: All of them.
        sizes: Of the model.
        constants: Of the model.
        weights: Of the model.
    """

    def __init__(
        self, entry: Entry, threads: int, sizes: Sizes, constants: Constants, weights: Weights
    ) -> None:
        self._entry = entry
        self._threads = threads
        self._model = (sizes, constants, weights)
        self._table = np.fromiter(flattened(self._model), np.int64)
        self._counter_bytes = _COUNTERS * phases(sizes.layers) * COUNTER_BYTES
        self._step: tuple[NDArray[np.int64], Any] | None = None
        self._closed = False
        self._bells = [threading.Lock() for _ in range(1, threads)]
        for number, bell in enumerate(self._bells, 1):
            bell.acquire()
            threading.Thread(
                target=self._help, args=(number, bell), name=f"decode-{number}", daemon=True
            ).start()

    def run(self, first: int, last: int, rows: Rows, room: Room) -> None:
        """Computes phases ``first … last - 1`` of a step."""
        counters = np.zeros(self._counter_bytes, np.uint8)
        before, behind = (first, last), (counters, 0, self._threads)
        parts = [np.fromiter(flattened(part), np.int64) for part in (before, rows, behind)]
        table = np.concatenate([parts[0], self._table, parts[1], room.table, parts[2]])
        self._step = (table, (rows, room, counters))  # kept alive while a thread may look at them
        self._ring()
        self._entry(table)

    def forget(self) -> None:
        """Lets go of the last step's working memory."""
        self._step = None

    def close(self) -> None:
        """Ends the threads."""
        self._closed = True
        self._ring()

    def _ring(self) -> None:
        for bell in self._bells:
            if bell.locked():
                bell.release()

    def _help(self, number: int, bell: threading.Lock) -> None:
        while True:
            bell.acquire()
            if self._closed:
                return
            step = self._step
            if step is not None:
                table = step[0].copy()
                table[-2] = number
                self._entry(table)
            del step
