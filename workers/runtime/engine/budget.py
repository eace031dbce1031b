"""What prompts may cost a step, so that running streams don't stall beyond a bound. Pure.

Costs are counted in *worths*: one is what a token at the beginning of a prompt takes in a large piece. What a
worth takes in seconds is measured all the time; how many a piece is worth follows from its size and place:

- a run reads all weights, be it for one token: ``_RUN``, shared by the pieces of a step, since a backend
  computes those in one run; and ``_STAGED`` more in stages, whose weights are not laid out for it;
- attention reads all keys and values before the piece, once a run, and costs more once there is more than
  one token to work on: ``_ONE_SPAN`` and ``_SPAN`` tokens before it are worth one;
- each token attends to each one before it: with ``_REACH`` tokens before it, it is worth two.

The constants were fitted to pieces of 1 to 256 tokens behind 0 to 4,080 others, SmolLM2-135M in int8 on two
cores, which they meet within a fifth. Of another model the proportions differ; since the seconds of a worth
follow what the latest pieces took, that makes a step or two too long or too short when a prompt begins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from workers.runtime.engine.plan import Chunk, StepPlan

_RUN: Final = 15
_ONE_SPAN: Final = 190
_SPAN: Final = 80
_REACH: Final = 1240
_STAGED: Final = 16

TOGETHER: Final = 2
"""Longest pieces that the prompts of a step may come to, if each but the first is whole. With one, the last
of a burst would be left for later steps, beside streams that by then are many."""
_FEW: Final = 8
"""Beside so many streams a single prompt keeps the bound. Beside fewer it may exceed it a little, and several
may beside more: they wait for one another too, so their waiting grows with the square of their number."""
_STRETCH: Final = 2
"""How many times the bound a single prompt may take at most."""
_RECENT: Final = 0.4
"""Weight of the latest step's prompt tokens among all before."""
_LATELY: Final = 0.2
"""Weight of the latest decode run among all before with as many rows."""


class Allowance:
    """What one step may still spend on prompts.

    Args:
        tokens: Prompt tokens of a piece, at most; all pieces together may have ``TOGETHER`` times as many.
        worth: What they may be worth, at most. ``None`` where nobody waits for the step: prompts are then
            computed at once as far as the tokens go. Else what doesn't fit goes through the model a few
            stages a step.
    """

    def __init__(self, tokens: int, worth: float | None = None) -> None:
        self.tokens = tokens
        """Prompt tokens of the next piece, at most."""
        self._left = TOGETHER * tokens
        self.bounded = worth is not None
        self._worth = worth or 0.0
        self._untouched = True
        self._joinable = False  # whether a run is paid for

    def take(self, start: int, wanted: int) -> int:
        """Takes a piece of a prompt to be computed at once. Returns its tokens; 0 if there is nothing for it.

        Args:
            start: Tokens before the piece.
            wanted: All that are left of the prompt. It is cut only for an unbounded step's first piece.
        """
        worth = _worth(start, wanted, joins=self._joinable)
        whole = wanted <= self.tokens and (worth <= self._worth or not self.bounded)
        if not whole and (self.bounded or not self._untouched):
            return 0
        size = min(wanted, self.tokens)
        if size:
            self._joinable = True
            self._untouched = False
            self._worth -= worth
            self._take(size)
        return size

    def take_staged(self, start: int, wanted: int, stages: int) -> int:
        """The size of a piece of which a single stage fits. 0 if there is nothing for it.

        Nor is there for what other prompts of this step have left too few tokens for: cut short, it would
        cost two runs, and the next step has room for it.

        Args:
            start: Tokens before the piece.
            wanted: Its tokens, at most.
            stages: Into how many the model is cut.
        """
        if wanted > self.tokens and not self._untouched:
            return 0
        whole = self._worth * stages - _extra(stages)
        least = int(self._untouched)
        return min(max(_affordable(whole, start), least), wanted, self.tokens)

    def stages(self, start: int, size: int, left: int, of: int) -> int:
        """Takes so many stages of a piece as fit, ``left`` at most; one if nothing else was taken.

        Args:
            start: Tokens before the piece.
            size: Its tokens.
            left: Stages that it has before it.
            of: Into how many the model is cut.
        """
        if not self.bounded:
            return left
        stage = _staged_worth(start, size, of)
        count = min(left, max(int(self._worth / stage), int(self._untouched)))
        self._worth -= count * stage
        self._untouched &= not count
        return count

    def spend(self, tokens: int) -> None:
        """Takes what costs as much as so many tokens."""
        self._take(tokens)
        self.tokens = max(self.tokens - tokens, 0)
        self._worth -= tokens

    def _take(self, tokens: int) -> None:
        self._left -= tokens
        self.tokens = min(self.tokens, self._left)


class PrefillBudget:
    """Measures steps and derives what the next one may spend.

    A step with streams may take at most ``1 + max_stall`` times as long as their decode run alone; longer
    where few streams would hold up several prompts, and a little for a single one beside fewer than ``_FEW``.

    Args:
        max_stall: By how much a step may be longer than its decode run, in lengths of the decode run.
        alone: Longest piece of a step in which nothing is decoded.
        shared: Longest piece of any other.
    """

    def __init__(self, max_stall: float, *, alone: int, shared: int) -> None:
        self._max_stall = max_stall
        self._alone = alone
        self._shared = shared
        self._worth_seconds: float | None = None
        self._decode: dict[int, float] = {}  # rows -> seconds

    def allowance(self, decoding: int, prompts: int = 1) -> Allowance:
        """For a step that decodes so many rows while so many prompts are to be computed."""
        if not decoding:
            return Allowance(self._alone)
        decode = self._decode_seconds(decoding)
        if self._worth_seconds is None or decode is None:
            return Allowance(self._shared, 0)
        stall = self._max_stall * decode * _stretch(decoding, prompts)
        return Allowance(self._shared, stall / self._worth_seconds)

    def record(self, plan: StepPlan, prefill_seconds: float, decode_seconds: float) -> None:
        """Takes in what a step did and what its two parts took."""
        worth = _worth_of(plan.chunks)
        if staged := plan.staged:
            chunk = staged.chunk
            worth += staged.count * _staged_worth(chunk.start, len(chunk.tokens), staged.of)
        if worth:
            self._worth_seconds = _mean(self._worth_seconds, prefill_seconds / worth, _RECENT)
        decoded = len(plan.rows)
        if decoded and not any(row.drafts for row in plan.rows):
            self._decode[decoded] = _mean(self._decode.get(decoded), decode_seconds, _LATELY)

    def _decode_seconds(self, rows: int) -> float | None:
        """Of the measured number of rows that is nearest; the smaller, hence faster, of two."""
        nearest = min(self._decode, key=lambda known: (abs(known - rows), known), default=None)
        return None if nearest is None else self._decode[nearest]


def _stretch(decoding: int, prompts: int) -> float:
    """How many times as long as else so many prompts may hold up so many streams."""
    return max(1.0, min(_FEW / decoding, _STRETCH), _FEW * prompts * (prompts - 1) / decoding)


def _worth(start: int, tokens: int, *, joins: bool) -> float:
    """Of a piece behind ``start`` tokens; ``joins``: in a run that is paid for."""
    run = 0 if joins else _RUN
    span = start / (_ONE_SPAN if tokens == 1 else _SPAN)
    return run + span + tokens * (1 + (start + tokens / 2) / _REACH)


def _staged_worth(start: int, tokens: int, stages: int) -> float:
    """Of one stage of a piece."""
    return (_worth(start, tokens, joins=False) + _extra(stages)) / stages


def _extra(stages: int) -> int:
    return _STAGED if stages > 1 else 0


def _affordable(worth: float, start: int) -> int:
    """The most tokens that are worth no more, what they have to do with one another left out."""
    left, token = worth - _RUN, 1 + start / _REACH
    several = int((left - start / _SPAN) / token)
    return several if several > 1 else int(left - start / _ONE_SPAN >= token)


def _worth_of(chunks: Iterable[Chunk]) -> float:
    return sum(_worth(chunk.start, len(chunk.tokens), joins=i > 0) for i, chunk in enumerate(chunks))


def _mean(before: float | None, latest: float, weight: float) -> float:
    return latest if before is None else before + weight * (latest - before)
