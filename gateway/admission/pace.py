"""How fast a deployment is, measured from what its generations took."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_WEIGHT: Final = 0.2
"""Of a new measurement in a running mean."""
_REMEMBERED: Final = 128
"""Generations whose lengths and errors are remembered."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one generation took, from its receipt."""

    prompt_tokens: int
    """Without those that were cached."""
    completion_tokens: int
    """Of its longest choice, about."""
    prefill: float
    """Seconds from the first work on it to the first token."""
    decode: float
    """Seconds from the first token to the last."""
    rows: float
    """Sequences that were decoded beside it, itself included, on average."""


@dataclass(slots=True)
class Pace:
    """One deployment's."""

    _steps: dict[int, float] = field(default_factory=dict)  # rows -> seconds a token
    _prompt: float | None = None  # seconds a prompt token
    _least_prefill: float = 0.0  # of a prompt of one token

    @property
    def known(self) -> bool:
        """Whether anything was measured."""
        return bool(self._steps)

    def learn(self, taken: Taken) -> None:
        """Takes a measurement in."""
        if taken.completion_tokens > 1:
            rows = max(1, round(taken.rows))
            seconds = taken.decode / (taken.completion_tokens - 1)
            self._steps[rows] = _mean(self._steps.get(rows), seconds)
        if taken.prompt_tokens > 0:
            self._prompt = _mean(self._prompt, taken.prefill / taken.prompt_tokens)

    def prefill(self, tokens: int) -> float:
        """Seconds that a prompt takes, from its slot to the first token."""
        return tokens * (self._prompt or 0.0)

    def step(self, rows: int) -> float:
        """Seconds a token when so many sequences are decoded together.

        Where that wasn't measured: between two measurements on the line between them; below the first, as
        there; above the last, in proportion, which is too slow rather than too fast.
        """
        if not self._steps:
            return 0.0
        below = max((it for it in self._steps if it <= rows), default=None)
        above = min((it for it in self._steps if it >= rows), default=None)
        if below is None:
            return self._steps[min(self._steps)]
        if above is None:
            return self._steps[below] * rows / below
        if above == below:
            return self._steps[rows]
        share = (rows - below) / (above - below)
        return self._steps[below] * (1 - share) + self._steps[above] * share


@dataclass(slots=True)
class Lengths:
    """How long answers come out."""

    _latest: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def learn(self, tokens: int) -> None:
        """Takes one in."""
        self._latest.append(tokens)

    def quantile(self, share: float, most: int | None) -> int | None:
        """The length that such a share of answers doesn't pass; ``None`` if nothing is known or bounds it.

        Args:
            share: From 0 to 1.
            most: The bound that the request sets, if it does.
        """
        if not self._latest:
            return most
        found = _quantile(list(self._latest), share)
        return round(found) if most is None else min(most, round(found))


@dataclass(slots=True)
class Errors:
    """By which factor times were longer than predicted."""

    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    caution: float = 1.0
    """Times are multiplied by this, so that 19 of 20 come out shorter."""

    def learn(self, predicted: float, actual: float) -> None:
        """Takes a prediction without caution, and what came of it, in."""
        if predicted > _NOTHING:
            self._latest.append(actual / predicted)
            self.caution = min(_MOST_CAUTION, max(1.0, _quantile(list(self._latest), 0.95)))


_NOTHING: Final = 0.001
_MOST_CAUTION: Final = 2.0


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)


def _quantile(values: list[int] | list[float], share: float) -> float:
    values.sort()
    return values[min(len(values) - 1, int(share * len(values)))]
