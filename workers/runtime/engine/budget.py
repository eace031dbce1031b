"""How many prompt tokens a step may compute, so that running streams don't stall beyond a bound. Pure.

A step with streams may take at most ``1 + max_stall`` times as long as their decode run alone; where many
prompts wait, longer in proportion, since a few streams then hold up all others. What prompt tokens and
decode runs cost is measured as they come: prompt tokens cost more the longer the prompt is already, and in
small pieces more than in large ones, so that only recent pieces of like size tell.
"""

from __future__ import annotations

from typing import Final

LEAST_CHUNK: Final = 8
"""Prompt tokens a step that are computed whatever they cost, so that prompts get on."""
_MANY: Final = 8
"""Streams for each waiting prompt below which the bound is stretched, in proportion."""
_SMALL_OVER_LARGE: Final = 2.0
"""What a token in a small piece costs at first, in terms of one in a large piece. Measured soon."""
_RECENT: Final = 0.5
"""Weight of the latest piece of a prompt among all before."""
_LATELY: Final = 0.2
"""Weight of the latest decode run among all before with as many rows."""


class PrefillBudget:
    """Measures steps and derives the next one's budget.

    Args:
        max_stall: By how much a step may be longer than its decode run, in lengths of the decode run.
        alone: Prompt tokens of a step in which nothing is decoded.
        shared: Most prompt tokens of any other.
    """

    def __init__(self, max_stall: float, *, alone: int, shared: int) -> None:
        self._max_stall = max_stall
        self._alone = alone
        self._shared = shared
        self._large: float | None = None  # seconds a token, in steps of their own
        self._small: float | None = None  # seconds a token, beside decode runs
        self._decode: dict[int, float] = {}  # rows -> seconds

    def tokens(self, decoding: int, prompts: int = 1) -> int:
        """The budget of a step that decodes so many rows while so many prompts are to be computed.

        At the beginning of a burst a few streams would hold up all the others for the sake of their pace.
        """
        if not decoding:
            return self._alone
        least = min(LEAST_CHUNK, self._shared)
        token, decode = self._token_seconds(), self._decode_seconds(decoding)
        if token is None or decode is None:
            return least
        stall = self._max_stall * decode * max(1.0, _MANY * prompts / decoding)
        return max(least, min(self._shared, int(stall / token)))

    def record(self, prefilled: int, prefill_seconds: float, decoded: int, decode_seconds: float) -> None:
        """Takes in what a step did and what its two parts took."""
        if prefilled:
            token = prefill_seconds / prefilled
            if decoded:
                self._small = _mean(self._small, token, _RECENT)
            else:
                self._large = _mean(self._large, token, _RECENT)
        if decoded:
            self._decode[decoded] = _mean(self._decode.get(decoded), decode_seconds, _LATELY)

    def _token_seconds(self) -> float | None:
        if self._small is not None:
            return self._small
        return None if self._large is None else self._large * _SMALL_OVER_LARGE

    def _decode_seconds(self, rows: int) -> float | None:
        """Of the measured number of rows that is nearest; the smaller, hence faster, of two."""
        nearest = min(self._decode, key=lambda known: (abs(known - rows), known), default=None)
        return None if nearest is None else self._decode[nearest]


def _mean(before: float | None, latest: float, weight: float) -> float:
    return latest if before is None else before + weight * (latest - before)
