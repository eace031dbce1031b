"""How fast a deployment is, measured from what its generations took."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

_WEIGHT: Final = 0.2
"""Of a new measurement in a running mean."""
_KEPT: Final = 0.95
"""Of all former measurements in a line, when one is added."""
_SAME: Final = 0.1
"""Lengths that spread by less than this share of their mean are taken for one."""
_FARTHEST: Final = 2.0
"""Times the longest prompt that was measured: as far as a line is followed."""
_REMEMBERED: Final = 128
"""Generations whose lengths and errors are remembered."""

_NOTHING: Final = 0.001
_FIRST_CAUTION: Final = 1.3
"""Before it is known: at the onset of an overload the machine gets slower than it was measured to be."""
_FEW: Final = 20
_MOST_CAUTION: Final = 2.0


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
    _prefill: Prefill = field(default_factory=lambda: Prefill())  # noqa: PLW0108  # it stands below

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
            self._prefill.learn(taken.prompt_tokens, taken.prefill)

    def prefill(self, tokens: int) -> float:
        """Seconds that a prompt takes, from its slot to the first token."""
        return self._prefill.seconds(tokens)

    def step(self, rows: int) -> float:
        """Seconds a token when so many sequences are decoded together.

        Where that wasn't measured: between two measurements on the line between them; below the first, as
        there; above the last by the root of the proportion, since a step of more rows takes longer, but by
        less than they are more.
        """
        if not self._steps:
            return 0.0
        below = max((it for it in self._steps if it <= rows), default=None)
        above = min((it for it in self._steps if it >= rows), default=None)
        if below is None:
            return self._steps[min(self._steps)]
        if above is None:
            return self._steps[below] * math.sqrt(rows / below)
        if above == below:
            return self._steps[rows]
        share = (rows - below) / (above - below)
        return self._steps[below] * (1 - share) + self._steps[above] * share


@dataclass(slots=True)
class Prefill:
    """What prompts take, as a line through the latest: so much for any, and so much a token.

    The line isn't followed far beyond what was measured: going by short prompts, most of whose time doesn't
    depend on their length, a long one would seem to take minutes.
    """

    _weight: float = 0.0
    _tokens: float = 0.0  # this and the following are sums in which the latest weigh most
    _seconds: float = 0.0
    _squares: float = 0.0  # of tokens
    _products: float = 0.0  # of tokens and seconds
    _longest: float = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        """Takes a measurement in."""
        for name, value in (
            ("_weight", 1.0),
            ("_tokens", tokens),
            ("_seconds", seconds),
            ("_squares", tokens * tokens),
            ("_products", tokens * seconds),
        ):
            setattr(self, name, getattr(self, name) * _KEPT + value)
        self._longest = max(self._longest * _KEPT, tokens)

    def seconds(self, tokens: int) -> float:
        """What a prompt takes; nothing before the first measurement."""
        if self._weight == 0:
            return 0.0
        mean, seconds = self._tokens / self._weight, self._seconds / self._weight
        variance = self._squares / self._weight - mean * mean
        if variance < (_SAME * mean) ** 2:  # of one length: nothing says what part depends on it
            slope = seconds / mean
        else:
            slope = max(0.0, (self._products / self._weight - mean * seconds) / variance)
        least = max(0.0, seconds - slope * mean)
        return least + slope * min(tokens, _FARTHEST * self._longest)


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
    """By which factor those who had to wait took longer than predicted."""

    _latest: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    caution: float = _FIRST_CAUTION
    """Times are multiplied by this, so that 19 of 20 come out shorter."""

    def learn(self, predicted: float, actual: float) -> None:
        """Takes a prediction without caution, and what came of it, in."""
        if predicted > _NOTHING:
            self._latest.append(actual / predicted)
            least = _FIRST_CAUTION if len(self._latest) < _FEW else 1.0
            self.caution = min(_MOST_CAUTION, max(least, _quantile(list(self._latest), 0.95)))


def _mean(old: float | None, new: float) -> float:
    return new if old is None else old + _WEIGHT * (new - old)


def _quantile(values: list[int] | list[float], share: float) -> float:
    values.sort()
    return values[min(len(values) - 1, int(share * len(values)))]
