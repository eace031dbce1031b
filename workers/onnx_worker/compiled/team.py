"""Threads that compute steps together."""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from workers.onnx_worker.compiled.step import COUNTER_BYTES, phases, run

_COUNTERS: Final = 2
"""Of a phase: pieces claimed, pieces finished."""


class Team:
    """The calling thread and some more, which sleep between steps.

    A step has counters of its own, so a thread that wakes up too late for it finds nothing to do in it and
    nobody has to wait for that.

    Args:
        threads: All of them.
        layers: Of the model.
    """

    def __init__(self, threads: int, layers: int) -> None:
        self._threads = threads
        self._counters = np.zeros(_COUNTERS * phases(layers) * COUNTER_BYTES, np.uint8)
        self._step: tuple[Any, ...] | None = None
        self._bells = [threading.Lock() for _ in range(1, threads)]
        for number, bell in enumerate(self._bells, 1):
            bell.acquire()
            threading.Thread(
                target=self._help, args=(number, bell), name=f"decode-{number}", daemon=True
            ).start()

    def run(self, *arguments: Any) -> None:
        """Computes a step; ``arguments`` as those of :func:`~workers.onnx_worker.compiled.step.run`."""
        counters = np.zeros_like(self._counters)
        self._step = (*arguments, counters)
        for bell in self._bells:
            if bell.locked():
                bell.release()
        run(*self._step, 0, self._threads)

    def close(self) -> None:
        """Ends the threads."""
        self._step = None
        for bell in self._bells:
            if bell.locked():
                bell.release()

    def _help(self, number: int, bell: threading.Lock) -> None:
        while True:
            bell.acquire()
            step = self._step
            if step is None:
                return
            run(*step, number, self._threads)
