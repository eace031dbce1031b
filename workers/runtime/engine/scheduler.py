"""Which sequences work in the next step. Pure: lists in, lists out; no tensors, clock or I/O.

Continuous batching over slots: a waiting sequence takes the lowest free slot, its prompt is prefilled in
chunks, then it is decoded together with all the others until it ends. Slots in use are kept dense, since a
backend decodes rows ``0 … n-1`` in one run: a hole that no waiting sequence fills is closed by moving the
highest sequence into it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field

from workers.runtime.engine.plan import Chunk, Move, Row, StepPlan
from workers.runtime.generation import FinishReason


@dataclass(slots=True)
class Sequence:
    """A sequence as the scheduler sees it."""

    id: int
    prompt: tuple[int, ...]
    max_tokens: int | None
    end_ids: frozenset[int]
    """The model's own end-of-sequence tokens."""
    stop_ids: frozenset[int]
    """Tokens that the caller wants to stop at."""
    priority: int = 0
    """The larger leaves the queue first."""
    slot: int = -1
    """Slot held, or -1 while waiting."""
    length: int = 0
    """Tokens whose keys and values the slot holds."""
    generated: int = 0
    last_token: int = -1

    @property
    def prefilled(self) -> bool:
        """Whether the whole prompt is in the slot."""
        return self.length >= len(self.prompt)


@dataclass(frozen=True, slots=True)
class Committed:
    """A token that a step gave a sequence."""

    sequence: int
    token: int
    finish: FinishReason | None


@dataclass(slots=True)
class Scheduler:
    """Admits, prefills in chunks, decodes together, finishes."""

    slots: int
    """Sequences at the same time."""
    max_length: int
    """Tokens that a slot can hold."""
    prefill_chunk: int
    """Most prompt tokens a step when nothing is being decoded."""
    shared_prefill_chunk: int
    """Most prompt tokens a step while something is being decoded."""
    _waiting: list[tuple[int, int, Sequence]] = field(default_factory=list)
    # heap of (-priority, arrival, sequence)
    _running: dict[int, Sequence] = field(default_factory=dict)  # slot -> sequence
    _by_id: dict[int, Sequence] = field(default_factory=dict)  # id -> sequence, waiting or running
    _arrivals: int = 0

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence into the queue. Its prompt must be non-empty and shorter than ``max_length``."""
        self._arrivals += 1
        self._by_id[sequence.id] = sequence
        heapq.heappush(self._waiting, (-sequence.priority, self._arrivals, sequence))

    def remove(self, sequence_id: int) -> bool:
        """Ends a sequence, waiting or running; its slot is free at once. False if it isn't known."""
        sequence = self._by_id.pop(sequence_id, None)
        if sequence is None:
            return False
        if sequence.slot >= 0:
            del self._running[sequence.slot]
        else:
            self._waiting = [entry for entry in self._waiting if entry[2] is not sequence]
            heapq.heapify(self._waiting)
        return True

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Sequences that wait for a slot."""
        return len(self._waiting)

    def schedule(self) -> StepPlan:
        """The next step; empty when there is nothing to do."""
        self._admit()
        moves = self._close_holes()
        chunks = self._chunks()
        rows = tuple(
            Row(sequence.id, slot, sequence.length, sequence.last_token)
            for slot, sequence in sorted(self._running.items())
            if sequence.prefilled
        )
        return StepPlan(moves, chunks, rows, self._idle(chunks, rows))

    def commit(self, plan: StepPlan, tokens: Ordered[int]) -> list[Committed]:
        """Takes in what a step did: ``tokens`` are those of ``plan.sampled``, in their order.

        A sequence that a token finishes is removed; one removed since the plan was made is passed over.
        """
        for chunk in plan.chunks:
            if chunk.sequence in self._by_id:
                self._by_id[chunk.sequence].length += len(chunk.tokens)
        for row in plan.rows:
            if row.sequence in self._by_id:
                self._by_id[row.sequence].length += 1
        return [
            self._append(self._by_id[sequence_id], token)
            for sequence_id, token in zip(plan.sampled, tokens, strict=True)
            if sequence_id in self._by_id
        ]

    def _idle(self, chunks: tuple[Chunk, ...], rows: tuple[Row, ...]) -> tuple[tuple[int, int], ...]:
        """Slots in prefill below the highest row, with what they hold after this step's chunks."""
        highest = rows[-1].slot if rows else 0
        added = {chunk.slot: len(chunk.tokens) for chunk in chunks}
        return tuple(
            (slot, sequence.length + added.get(slot, 0))
            for slot, sequence in sorted(self._running.items())
            if slot < highest and not sequence.prefilled
        )

    def _append(self, sequence: Sequence, token: int) -> Committed:
        sequence.last_token = token
        sequence.generated += 1
        finish = self._finish(sequence, token)
        if finish is not None:
            self.remove(sequence.id)
        return Committed(sequence.id, token, finish)

    def _finish(self, sequence: Sequence, token: int) -> FinishReason | None:
        if token in sequence.end_ids:
            return FinishReason.END_OF_SEQUENCE
        if token in sequence.stop_ids:
            return FinishReason.STOP
        if sequence.max_tokens is not None and sequence.generated >= sequence.max_tokens:
            return FinishReason.MAX_TOKENS
        if len(sequence.prompt) + sequence.generated >= self.max_length:
            return FinishReason.CONTEXT_LENGTH
        return None

    def _admit(self) -> None:
        for slot in range(self.slots):
            if not self._waiting:
                return
            if slot not in self._running:
                _, _, sequence = heapq.heappop(self._waiting)
                sequence.slot = slot
                self._running[slot] = sequence

    def _close_holes(self) -> tuple[Move, ...]:
        moves = []
        for hole in range(len(self._running)):
            if hole in self._running:
                continue
            highest = max(self._running)
            sequence = self._running.pop(highest)
            sequence.slot = hole
            self._running[hole] = sequence
            moves.append(Move(highest, hole, sequence.length))
        return tuple(moves)

    def _chunks(self) -> tuple[Chunk, ...]:
        """Prompt pieces under the step's budget: one prompt after the other, in the order of arrival."""
        decoding = any(sequence.prefilled for sequence in self._running.values())
        budget = self.shared_prefill_chunk if decoding else self.prefill_chunk
        chunks = []
        for sequence in sorted(self._running.values(), key=_prefill_order):
            if sequence.prefilled or budget <= 0:
                continue
            tokens = sequence.prompt[sequence.length : sequence.length + budget]
            last = sequence.length + len(tokens) == len(sequence.prompt)
            chunks.append(Chunk(sequence.id, sequence.slot, sequence.length, tokens, last))
            budget -= len(tokens)
        return tuple(chunks)


def _prefill_order(sequence: Sequence) -> tuple[int, int]:
    """Higher priority first, then the older: ids are given in the order of arrival."""
    return -sequence.priority, sequence.id
