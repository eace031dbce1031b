"""How many guessed tokens are worth trying. Pure.

A step takes in a token of every sequence and up to ``k`` guesses behind it. A sequence whose guesses are each
right with probability ``p`` gets ``1 + p + … + p**k`` tokens of it (Leviathan et al., 2023, equation 1). What
the step costs depends on the tokens that its run takes in, shorter rows padded: that is measured for each
number of tokens, and ``p`` for each sequence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

LENGTHS: Final = (1, 2, 4, 8)
"""Numbers of guesses that are tried."""
MOST_TOKENS: Final = 64
"""Tokens of a run with guesses. Beyond, each one costs as much as the one before."""

_GAIN: Final = 1.05
"""Speed-up that is expected before guesses are tried."""
_FORGET: Final = 0.85
"""What the tries before count against the latest one."""
_PRIOR_RIGHT: Final = 2.0
_PRIOR_WRONG: Final = 1.0
"""Guesses that a sequence is taken to have had right and wrong before its first."""
_FIRST_REST: Final = 16
_LONGEST_REST: Final = 512
"""Tokens without a try after which bad luck is forgotten: doubled from the first to the longest."""
_COST_WEIGHT: Final = 0.2
_GROWTH: Final = 0.25
"""How costs are taken to grow with tokens before it is known, as an exponent: little, so that it is tried."""
_STALE: Final = 256
"""Steps after which a cost is measured anew."""
_MANY: Final = 4
"""Rows from which on looking for guesses costs enough to be left out where they don't pay."""
_LEFT_OUT: Final = 4
"""Steps without a look then."""


@dataclass(slots=True)
class Luck:
    """How often the guesses of a sequence are right."""

    _right: float = _PRIOR_RIGHT
    _wrong: float = _PRIOR_WRONG
    _idle: int = 0
    _rest: int = _FIRST_REST

    @property
    def chance(self) -> float:
        """Of the next guess."""
        return self._right / (self._right + self._wrong)

    def record(self, drafted: int, accepted: int) -> None:
        """Takes in a step: guesses tried, and how many were right before the first wrong one."""
        if drafted:
            self._idle = 0
            self._right = _FORGET * self._right + accepted
            self._wrong = _FORGET * self._wrong + (accepted < drafted)
            if accepted:
                self._rest = _FIRST_REST
            return
        self._idle += 1
        if self._idle >= self._rest:  # the text may have changed
            self._idle, self._rest = 0, min(2 * self._rest, _LONGEST_REST)
            self._right = max(self._right, _PRIOR_RIGHT)
            self._wrong = min(self._wrong, _PRIOR_WRONG)


_UNKNOWN: Final = Luck()


class StepCosts:
    """Seconds of decode runs by the tokens that they take in."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # tokens -> seconds
        self._measured: dict[int, int] = {}  # tokens -> number of the run that was measured last
        self._runs = 0

    def record(self, tokens: int, seconds: float) -> None:
        """Takes in a run."""
        self._runs += 1
        self._measured[tokens] = self._runs
        before = self._seconds.get(tokens, seconds)
        self._seconds[tokens] = before + _COST_WEIGHT * (seconds - before)
        for stale in [each for each, run in self._measured.items() if self._runs - run > _STALE]:
            del self._measured[stale], self._seconds[stale]

    def __contains__(self, tokens: int) -> bool:
        return tokens in self._seconds

    def seconds(self, tokens: int) -> float:
        """What a run takes: as measured, between what fewer and more took, or a guess from what fewer did.

        Raises:
            ValueError: No run over as many or fewer was measured.
        """
        below = max(known for known in self._seconds if known <= tokens)
        above = min((known for known in self._seconds if known >= tokens), default=None)
        if above is None:
            return self._seconds[below] * math.pow(tokens / below, _GROWTH)
        if above == below:
            return self._seconds[below]
        part = (tokens - below) / (above - below)
        return self._seconds[below] + part * (self._seconds[above] - self._seconds[below])


@dataclass(slots=True)
class Speculation:
    """Decides before a step, and learns from what came of it."""

    _most_rows: int = MOST_TOKENS
    """Rows up to which a backend takes guesses."""
    _costs: StepCosts = field(default_factory=StepCosts)
    _luck: dict[int, Luck] = field(default_factory=dict)  # sequence -> its luck
    _left_out: int = 0

    def most(self, rows: int) -> int:
        """Guesses worth looking for before a step with so many rows; 0 for none."""
        if rows > self._most_rows or rows not in self._costs:
            return 0
        if self._left_out:
            self._left_out -= 1
            return 0
        return max((k for k in LENGTHS if rows * (1 + k) <= MOST_TOKENS), default=0)

    def choose(self, found: Mapping[int, int]) -> int:
        """Guesses to try in each row, at most; 0 for none.

        Args:
            found: Sequence -> guesses that there are; for all rows, and not more than :meth:`most`.
        """
        longest = max(found.values())
        best = max((k for k in LENGTHS if k <= longest), key=lambda k: self._gain(found, k), default=0)
        if best and self._gain(found, best) >= _GAIN:
            return best
        if len(found) >= _MANY:
            self._left_out = _LEFT_OUT
        return 0

    def record(self, tried: Mapping[int, tuple[int, int]], seconds: float) -> None:
        """Takes in a step without prompts.

        Args:
            tried: Sequence -> its guesses, and how many were right before the first wrong one; for all rows.
            seconds: What the run took.
        """
        width = 1 + max(drafted for drafted, _ in tried.values())
        self._costs.record(len(tried) * width, seconds)
        self._luck = {sequence: self._luck.get(sequence) or Luck() for sequence in tried}
        for sequence, (drafted, accepted) in tried.items():
            self._luck[sequence].record(drafted, accepted)

    def _gain(self, found: Mapping[int, int], most: int) -> float:
        """Speed-up that is expected of so many guesses."""
        tokens = sum(
            _expected(self._luck.get(sequence, _UNKNOWN).chance, min(most, guesses))
            for sequence, guesses in found.items()
        )
        cost = self._costs.seconds(len(found) * (1 + most)) / self._costs.seconds(len(found))
        return tokens / len(found) / cost


def _expected(chance: float, guesses: int) -> float:
    """Tokens that a step gives: ``1 + p + … + p**guesses``."""
    return sum(chance**i for i in range(guesses + 1))
