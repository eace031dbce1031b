"""How many guessed tokens are worth trying. Pure.

A run over a token and ``k`` guesses costs more than one over the token alone, and gives ``1 + p + … + p**k``
tokens when each guess is right with probability ``p`` (Leviathan et al., 2023, equation 1). Costs are
measured over all sequences, ``p`` for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

LENGTHS: Final = (2, 4, 8)
"""Numbers of guesses that are tried."""
_GAIN: Final = 1.05
"""Speed-up that is expected before guesses are tried."""
_FORGET: Final = 0.85
"""What the tries before count against the latest one."""
_PRIOR_RIGHT: Final = 2.0
_PRIOR_WRONG: Final = 1.0
"""Guesses that a sequence is taken to have had right and wrong before its first."""
_FIRST_COST: Final = 0.1
"""What a guess is taken to add to the cost of a step before it has been measured: little, so that it is."""
_FIRST_REST: Final = 16
_LONGEST_REST: Final = 512
"""Tokens without a try after tries that didn't pay: doubled from the first to the longest."""
_COST_WEIGHT: Final = 0.2


@dataclass(slots=True)
class Speculation:
    """Decides before a step, and learns from what came of it."""

    _seconds: dict[int, float] = field(default_factory=dict)  # guesses -> seconds of a step with one row
    _sequence: int | None = None
    _right: float = _PRIOR_RIGHT
    _wrong: float = _PRIOR_WRONG
    _resting: int = 0
    _rest: int = _FIRST_REST

    def drafts(self) -> int:
        """Guesses to try in the next step, if it has a single row; 0 for none."""
        if 0 not in self._seconds or self._resting:
            return 0
        best = self._best()
        if best == 0:
            self._resting, self._rest = self._rest, min(2 * self._rest, _LONGEST_REST)
        return best

    def record(self, sequence: int, drafted: int, accepted: int, seconds: float) -> None:
        """Takes in a step of a single row: guesses tried, how many were right, and the time it took."""
        if sequence != self._sequence:
            self._sequence = sequence
            self._right, self._wrong, self._resting, self._rest = _PRIOR_RIGHT, _PRIOR_WRONG, 0, _FIRST_REST
        before = self._seconds.get(drafted)
        self._seconds[drafted] = seconds if before is None else before + _COST_WEIGHT * (seconds - before)
        if drafted:
            self._right = _FORGET * self._right + accepted
            self._wrong = _FORGET * self._wrong + (accepted < drafted)
            if (1 + accepted) * self._seconds[0] >= _GAIN * seconds:  # it paid
                self._rest = _FIRST_REST
        elif self._resting:
            self._resting -= 1
            if self._resting == 0:
                # Worth a look again, as if nothing were known; machine and text may have changed.
                self._right, self._wrong = _PRIOR_RIGHT, _PRIOR_WRONG
                self._seconds = {0: self._seconds[0]}

    def _best(self) -> int:
        """The number of guesses that promises most, if that is worth it; else 0."""
        chance = self._right / (self._right + self._wrong)
        gains = {k: _expected(chance, k) * self._seconds[0] / self._cost(k) for k in LENGTHS}
        best = max(gains, key=gains.__getitem__)
        return best if gains[best] >= _GAIN else 0

    def _cost(self, drafts: int) -> float:
        return self._seconds.get(drafts, self._seconds[0] * (1 + _FIRST_COST * drafts))


def _expected(chance: float, drafts: int) -> float:
    """Tokens that a step gives: ``1 + p + … + p**drafts``."""
    return sum(chance**i for i in range(drafts + 1))
