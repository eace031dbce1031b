"""Which pieces of prompts a step computes. Pure.

Where nobody waits for the step, prompts are computed in large pieces. Beside running streams, a prompt that
fits the step is computed at once; of one that doesn't, a piece goes through the model a few stages a step.
There is one such piece at a time, the *flight*: it stays in the last row, where nothing else is moved to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from workers.runtime.engine.budget import Allowance
from workers.runtime.engine.plan import Chunk, StagedChunk, StepPlan
from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.slots import SlotTable

_MOST_PASSED_OVER: Final = 3
"""Steps in which the sequence that was admitted first lets shorter prompts go before it."""

_Piece = tuple[Sequence, int]  # and how many tokens of it


@dataclass(slots=True)
class _Flight:
    """The piece that takes several steps."""

    sequence: Sequence
    size: int
    done: int = 0
    """Stages."""


class Prefill:
    """Chooses.

    Args:
        table: The slots; sequences are moved in it.
        stages: Parts of the model that a backend can compute one by one.
    """

    def __init__(self, table: SlotTable, stages: int) -> None:
        self._table = table
        self._of = stages
        self._flight: _Flight | None = None
        self._flight_first = False
        self._passed_over = 0

    def choose(
        self, running: Iterable[Sequence], allowance: Allowance, decoding: int
    ) -> tuple[tuple[Chunk, ...], StagedChunk | None]:
        """The pieces of the next step.

        Args:
            running: All sequences that have a slot, in the order of admission.
            allowance: What may be spent.
            decoding: Rows that decode: the first so many.
        """
        pieces: list[_Piece] = []
        stages = 0
        pending = _pending(running)
        oldest = min(pending, key=lambda sequence: sequence.admitted, default=None)
        for sequence in self._ordered(pending, oldest):
            if self._flies(sequence) or self._takes_off(sequence, allowance, pieces):
                stages = self._advance(allowance)
        served = [sequence for sequence, _ in pieces]
        self._passed_over = 0 if oldest in served or self._flies(oldest) else self._passed_over + 1
        return self._placed(pieces, decoding), self._staged(stages)

    def commit(self, plan: StepPlan) -> None:
        """Takes in that a step is done."""
        if self._flight and plan.staged:
            self._flight.done += plan.staged.count
            if plan.staged.complete:
                self._flight = None

    def forget(self, sequence: Sequence) -> None:
        """Lets go of a sequence that loses its slot."""
        if self._flies(sequence):
            self._flight = None

    def _ordered(self, pending: list[Sequence], oldest: Sequence | None) -> list[Sequence]:
        """The flight goes first in every other step; without one, now and then the oldest."""
        first = oldest if self._passed_over >= _MOST_PASSED_OVER else None
        if self._flight:
            self._flight_first = not self._flight_first
            first = self._flight.sequence if self._flight_first else None
        return sorted(pending, key=lambda sequence: sequence is not first)

    def _flies(self, sequence: Sequence | None) -> bool:
        return self._flight is not None and self._flight.sequence is sequence

    def _takes_off(self, sequence: Sequence, allowance: Allowance, pieces: list[_Piece]) -> bool:
        """Computes a piece at once if that fits. Otherwise begins a flight, if there is none yet."""
        if size := allowance.take(sequence.length, sequence.missing):
            pieces.append((sequence, _undivided(sequence, size, allowance)))
            return False
        if self._flight or not allowance.bounded:
            return False
        size = allowance.take_staged(sequence.length, sequence.missing, self._of)
        self._flight = _Flight(sequence, _undivided(sequence, size, allowance)) if size else None
        return size > 0

    def _advance(self, allowance: Allowance) -> int:
        flight = self._flight
        assert flight is not None  # noqa: S101  # the caller looked
        return allowance.stages(flight.sequence.length, flight.size, self._of - flight.done, self._of)

    def _placed(self, pieces: list[_Piece], decoding: int) -> tuple[Chunk, ...]:
        """Several stand behind the rows that decode, the shorter first; the flight is in the last row."""
        pieces.sort(key=lambda piece: piece[1])
        if len(pieces) > 1:
            for row, (sequence, _) in enumerate(pieces, start=decoding):
                self._move(sequence, row)
        if self._flight:
            self._move(self._flight.sequence, len(self._table.slots) - 1)
        return tuple(_chunk(sequence, size) for sequence, size in pieces)

    def _staged(self, count: int) -> StagedChunk | None:
        if self._flight is None or not count:
            return None
        chunk = _chunk(self._flight.sequence, self._flight.size)
        return StagedChunk(chunk, self._flight.done, count, self._of)

    def _move(self, sequence: Sequence, row: int) -> None:
        if sequence.slot is not None and sequence.slot.row != row:
            self._table.swap(sequence.slot.row, row)


def _pending(running: Iterable[Sequence]) -> list[Sequence]:
    """What is to be prefilled: by priority, then what is done soonest, then in the order of admission.

    What others want to copy is as urgent as they are.
    """
    urgency: dict[int, int] = {}  # id -> priority
    pending = []
    for sequence in reversed(list(running)):
        own = urgency[sequence.id] = max(urgency.get(sequence.id, 0), sequence.priority)
        prefix = sequence.slot.prefix if sequence.slot else None
        if prefix is not None:
            owner = prefix.source.owner
            urgency[owner] = max(urgency.get(owner, 0), own)
        elif not sequence.decodes:
            pending.append(sequence)
    return sorted(pending, key=lambda s: (-urgency[s.id], s.missing, s.admitted))


def _undivided(sequence: Sequence, size: int, allowance: Allowance) -> int:
    """A piece that doesn't end within a picture that mustn't be divided; what that adds is spent too."""
    whole = sequence.whole(size)
    allowance.spend(whole - size)
    return whole


def _chunk(sequence: Sequence, size: int) -> Chunk:
    """A sequence's next ``size`` tokens."""
    start = sequence.length
    assert sequence.slot is not None  # noqa: S101  # it runs
    tokens = tuple(sequence.tokens[start : start + size])
    return Chunk(sequence.id, sequence.slot.row, start, tokens, last=size == sequence.missing)
