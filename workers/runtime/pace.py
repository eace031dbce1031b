"""How long a phase of long work still takes, from the rate of its last seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from workers.runtime.progress import Phase, Progress

_WINDOW: Final = 10.0
"""Seconds that the rate is taken over: long enough for a jerky network, short enough to follow it."""
_SHORTEST: Final = 0.25
"""Seconds before which there is no estimate."""


class Pace:
    """Watches the progress of one piece of work and fills in :attr:`Progress.eta`.

    Args:
        clock: Seconds of any beginning.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase: Phase | None = None
        self._seen: deque[tuple[float, int]] = deque()  # (when, units done) within the window

    def timed(self, progress: Progress) -> Progress:
        """The same progress with an estimate, where there is one."""
        now = self._clock()
        if progress.phase is not self._phase or (self._seen and progress.done < self._seen[-1][1]):
            self._phase = progress.phase
            self._seen.clear()
        self._seen.append((now, progress.done))
        while now - self._seen[0][0] > _WINDOW and now - self._seen[1][0] >= _SHORTEST:
            self._seen.popleft()
        began, before = self._seen[0]
        if progress.total is None or now - began < _SHORTEST or progress.done <= before:
            return progress
        rate = (progress.done - before) / (now - began)
        return replace(progress, eta=max(progress.total - progress.done, 0) / rate)
