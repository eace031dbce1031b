"""How many threads decode: all, or one where others use the cores.

Between two operations, threads of OpenMP spin for some microseconds before they sleep (``GOMP_SPINCOUNT``,
set by the package). As long as nobody else needs the cores, all are there for the next operation at once. If
somebody does, each operation waits for a thread that isn't running, and one thread alone is faster. Which of
both it is is measured now and then. See docs/decisions/0055-threads-that-spin-a-little.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

_BETWEEN: Final = 32
"""Steps between two looks at how the other number of threads fares."""
_LEAST: Final = 4
"""Steps of as many rows that a mean needs to be compared with."""
_WEIGHT: Final = 0.3
"""Of a step in the mean of those before it."""
_GAIN: Final = 0.9
"""Share of the present time that another number of threads must stay below to be taken."""


class DecodeThreads:
    """Chooses before each decode step, and learns from it.

    Args:
        most: Threads that there are.
        use: Has so many compute from now on.
    """

    def __init__(self, most: int, use: Callable[[int], None]) -> None:
        self._most = most
        self._use = use
        self._chosen = most
        self._rows = 0  # of the latest steps
        self._mean: float | None = None  # seconds of a step of so many rows with the chosen number
        self._steps = 0  # that the mean stands for
        self._since = 0  # steps since the last look
        self._trying = 0  # steps that were tried with the other number

    def begin(self, rows: int) -> None:
        """A step of so many rows is about to be computed."""
        if self._most == 1:
            return
        if rows != self._rows:
            self._rows, self._mean, self._steps, self._trying = rows, None, 0, 0
        self._since += 1
        if self._trying or (self._since > _BETWEEN and self._steps >= _LEAST):
            self._trying += 1
            self._use(self._other)
        else:
            self._use(self._chosen)

    def end(self, seconds: float) -> None:
        """It took so long. All threads compute what comes next."""
        if self._most == 1:
            return
        self._use(self._most)
        if not self._trying:
            before = seconds if self._mean is None else self._mean
            self._mean = before + _WEIGHT * (seconds - before)
            self._steps += 1
        elif self._trying > 1:  # the first after a change of threads tells nothing
            if self._mean is not None and seconds < _GAIN * self._mean:
                self._chosen, self._mean, self._steps = self._other, seconds, 1
            self._since = self._trying = 0

    @property
    def _other(self) -> int:
        return 1 if self._chosen == self._most else self._most
