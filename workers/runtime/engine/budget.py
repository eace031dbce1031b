"""How prompts are computed while streams run, so that these don't stall beyond a bound. Pure.

A prompt's pieces are computed beside the decode runs if these don't get too slow by it: that makes the best
use of the cores. If they do, a step has a piece first and its decode run then, and the piece is so small that
the step takes at most ``1 + max_stall`` times as long as its decode run alone.

Costs are measured as they come: prompt tokens cost more the longer the prompt is already, and in small pieces
more than in large ones, so that only recent pieces of like size tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workers.runtime.engine.backend import StepResult

_SMALL_OVER_LARGE: Final = 2.0
"""What a token in a small piece costs at first, in terms of one in a large piece. Measured soon."""
_UNKNOWN: Final = 8
"""Prompt tokens of a step before anything has been measured."""
_RECENT: Final = 0.5
"""Weight of the latest piece of a prompt among all before."""
_LATELY: Final = 0.3
"""Weight of the latest decode run among all before of its kind."""
_STEPS_BESIDE: Final = 8
"""Decode runs with something beside them after which one is to be measured without."""
_STEPS_WITHOUT: Final = 512
"""Decode runs after which prefill beside them is tried again when it was too slow."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a step may do for prompts."""

    tokens: int
    """Prompt tokens to be computed before the decode run."""
    beside: int
    """Prompt tokens to be begun beside the decode run instead, if there is one; 0 for none."""


class PrefillBudget:
    """Measures steps and derives the next one's budget.

    Args:
        max_stall: By how much a step may be longer than its decode run alone, in lengths of that.
        alone: Prompt tokens of a step in which nothing is decoded.
        shared: Most prompt tokens of a piece otherwise.
    """

    def __init__(self, max_stall: float, *, alone: int, shared: int) -> None:
        self._max_stall = max_stall
        self._alone = alone
        self._shared = shared
        self._large: float | None = None  # seconds a token, in steps of their own
        self._small: float | None = None  # seconds a token, in steps with a decode run
        self._decode: dict[int, float] = {}  # rows -> seconds of a decode run with nothing beside it
        self._slower: float | None = None  # seconds of a run with something beside it over one without
        self._without = 0  # decode runs to go before prefill beside them is tried again
        self._since_alone = 0  # decode runs with something beside them since the last one without

    def next(self, decoding: int) -> Budget:
        """The budget of a step that decodes so many rows of running streams."""
        if not decoding:
            return Budget(self._alone, 0)
        stale = self._since_alone >= _STEPS_BESIDE
        return Budget(self._tokens(decoding), 0 if self._without or stale else self._shared)

    def record(self, result: StepResult, *, beside: bool) -> None:
        """Takes in what a step did and took, and whether something was computed beside it."""
        rows = len(result.done.rows)
        prefilled = sum(len(chunk.tokens) for chunk in result.done.chunks)
        if rows:
            self._record_decode(rows, result.decode_seconds, beside=beside)
        if prefilled and not result.beside_seconds:
            token = result.prefill_seconds / prefilled
            if rows:
                self._small = _mean(self._small, token, _RECENT)
            else:
                self._large = _mean(self._large, token, _RECENT)

    def _record_decode(self, rows: int, seconds: float, *, beside: bool) -> None:
        self._without = max(self._without - 1, 0)
        self._since_alone = self._since_alone + 1 if beside else 0
        if not beside:
            self._decode[rows] = _mean(self._decode.get(rows), seconds, _LATELY)
        elif (alone := self._decode.get(rows)) is not None:
            self._slower = _mean(self._slower, seconds / alone, _LATELY)
            if self._slower > 1 + self._max_stall:
                self._slower, self._without = None, _STEPS_WITHOUT

    def _tokens(self, rows: int) -> int:
        token = self._small
        if token is None and self._large is not None:
            token = self._large * _SMALL_OVER_LARGE
        decode = self._decode_seconds(rows)
        if token is None or decode is None:
            return min(_UNKNOWN, self._shared)
        return max(1, min(self._shared, int(self._max_stall * decode / token)))

    def _decode_seconds(self, rows: int) -> float | None:
        """Of the measured number of rows that is nearest; the smaller, hence faster, of two."""
        nearest = min(self._decode, key=lambda known: (abs(known - rows), known), default=None)
        return None if nearest is None else self._decode[nearest]


def _mean(before: float | None, latest: float, weight: float) -> float:
    return latest if before is None else before + weight * (latest - before)
