"""Which sequences work in the next step. Pure: lists in, lists out; no tensors, clock or I/O.

Continuous batching over slots. A waiting sequence gets a slot, what a slot somewhere holds of it already is
taken over or copied, the rest is prefilled in chunks under a budget, and then it is decoded together with all
others until it ends. One with pictures waits before all that until these are encoded, a tile a step.
Sequences that decode stand dense in rows ``0 … n-1``, since a backend runs these as one batch; all others are
in any row behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from typing import Final, Protocol

from workers.runtime.engine.budget import Allowance
from workers.runtime.engine.looking import LookingSequences
from workers.runtime.engine.plan import Row, StepPlan
from workers.runtime.engine.prefill import Prefill
from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.slots import Slot, SlotTable
from workers.runtime.engine.waiting import WaitingSequences
from workers.runtime.generation import FinishReason

COPIED_PER_COMPUTED: Final = 32
"""Tokens that are copied at the price of computing one; measured, it is 60 to 100."""
_GROWTH: Final = 16
"""Tokens that are left free for each running sequence when another one is admitted, lest it be preempted at
once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a scheduler may give away."""

    slots: int
    """Sequences at the same time."""
    rows: int
    """Slots of the KV cache; those more than ``slots`` only ever hold cached tokens."""
    max_length: int
    """Tokens of a sequence, prompt and output."""
    kv_tokens: int
    """Tokens that all slots may hold together; ``max_length`` at least."""
    cached_tokens: int
    """Tokens that free slots may hold together; 0 turns the prefix cache off."""
    stages: int = 1
    """Parts of the model that a backend can compute one by one."""


class Guessing(Protocol):
    """How many guesses are tried; see :class:`workers.runtime.engine.speculation.Speculation`."""

    def most(self, rows: int) -> int:
        """Guesses worth looking for before a step with so many rows."""

    def choose(self, found: Mapping[int, int]) -> int:
        """Guesses to try in each row, at most, where sequences have found so many."""


@dataclass(frozen=True, slots=True)
class Committed:
    """A token that a step gave a sequence."""

    sequence: int
    token: int
    finish: FinishReason | None
    guessed: bool = False
    """Whether speculation had guessed it."""
    cached: int = 0
    """Tokens of the sequence's prompt that the prefix cache spared."""


class Scheduler:
    """Admits, prefills in chunks, decodes together, preempts, finishes."""

    def __init__(self, limits: Limits, waiting: WaitingSequences | None = None) -> None:
        self._limits = limits
        self._waiting = WaitingSequences() if waiting is None else waiting
        self._looking = LookingSequences()
        self._table = SlotTable(limits.rows, limits.cached_tokens)
        self._prefill = Prefill(self._table, limits.stages)
        self._by_id: dict[int, Sequence] = {}  # id -> sequence, waiting or running
        self._running: dict[int, Sequence] = {}  # id -> sequence, in the order of admission
        self._admissions = 0

    def add(self, sequence: Sequence) -> None:
        """Puts a sequence into the queue. It must be non-empty and shorter than ``max_length``."""
        self._by_id[sequence.id] = sequence
        (self._looking if sequence.unseen else self._waiting).add(sequence)

    def remove(self, sequence_id: int) -> bool:
        """Ends a sequence, waiting or running; its slot is free at once. False if it isn't known."""
        sequence = self._by_id.pop(sequence_id, None)
        if sequence is None:
            return False
        if sequence in self._looking:
            self._looking.remove(sequence)
        elif sequence.slot is None:
            self._waiting.remove(sequence)
        else:
            self._table.free(self._leave(sequence))
        return True

    def append(self, sequence_id: int, token: int) -> Committed:
        """Gives a sequence a token without a step; its slot takes it in with those that are missing."""
        return self._append(self._by_id[sequence_id], token)

    def discard(self, sequence_id: int) -> None:
        """Ends a running sequence whose keys and values can't be trusted: nobody may build on them."""
        sequence = self._by_id.pop(sequence_id)
        self._table.discard(self._leave(sequence))

    @property
    def max_length(self) -> int:
        """Tokens of a sequence, prompt and output."""
        return self._limits.max_length

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Sequences that wait for a slot, or before that for their pictures to be encoded."""
        return len(self._waiting) + len(self._looking)

    @property
    def decoding(self) -> int:
        """Sequences that the next step decodes, at least."""
        return sum(sequence.decodes for sequence in self._running.values())

    @property
    def prompts(self) -> int:
        """Sequences that are to be prefilled, as far as there are slots for them."""
        return min(self.busy + len(self._waiting), self._limits.slots) - self.decoding

    @property
    def cached(self) -> int:
        """Tokens that free slots hold."""
        return self._table.cached

    def forget(self) -> None:
        """Empties the prefix cache; the next plan hands the memory back."""
        self._table.evict(self._table.cached)

    def schedule(
        self, allowance: Allowance, guessing: Guessing | None = None, *, encode: bool = True
    ) -> StepPlan:
        """The next step; empty when there is nothing to do.

        Args:
            allowance: What may be spent on prompts.
            guessing: Decides how many guesses are tried if no prompt is at work; ``None`` for none.
            encode: Whether a tile may be encoded; one is, if nothing else is to be done.
        """
        for sequence in self._looking.take_seen():
            self._waiting.add(sequence)
        self._make_room()
        self._admit()
        self._copy_prefixes(allowance)
        decoding = self._line_up()
        chunks, staged = self._prefill.choose(self._running.values(), allowance, len(decoding))
        drafts = self._drafts(decoding, guessing) if guessing and len(decoding) == self.busy > 0 else {}
        rows = tuple(
            Row(sequence.id, sequence.length, sequence.tokens[-1], drafts.get(sequence.id, ()))
            for sequence in decoding
        )
        plan = StepPlan(self._table.take_changes(), chunks, rows, staged)
        return replace(plan, encode=self._looking.next_tile()) if encode or not rows else plan

    def commit(self, plan: StepPlan, tokens: Ordered[int]) -> list[Committed]:
        """Takes in what a step did: ``tokens`` are those of ``plan.sampled``, in their order.

        Of a row with drafts, tokens are taken as long as the one before was guessed right: exactly those
        that would have come one by one. A sequence that a token finishes is removed; one removed since the
        plan was made is passed over.
        """
        if len(tokens) != len(plan.sampled):
            raise ValueError(f"{len(tokens)} tokens for {len(plan.sampled)} sampled")
        committed = []
        remaining = iter(tokens)
        if plan.encode:
            self._looking.charge(plan.encode)
        self._prefill.commit(plan)
        for chunk in plan.complete:
            sequence = self._running.get(chunk.sequence)
            if sequence is not None and sequence.slot is not None:
                sequence.slot.length += len(chunk.tokens)
            if chunk.last:
                token = next(remaining)
                if sequence is not None:
                    committed.append(self._append(sequence, token))
        for row in plan.rows:
            chosen = [next(remaining) for _ in range(1 + len(row.drafts))]
            committed += self._decoded(row, chosen)
        return committed

    # ------------------------------------------------------------------------------- into the slots

    def _make_room(self) -> None:
        """Lets what runs grow: first cached tokens go, then the latest sequences of the lowest priority."""
        while (excess := self._claimed() - self._limits.kv_tokens) > 0 and len(self._running) > 1:
            victim = min(self._running.values(), key=lambda s: (s.priority, -s.admitted))
            self._table.free(self._leave(victim))
            self._waiting.put_back(victim)
        self._table.evict(self._table.cached + excess)

    def _admit(self) -> None:
        while (sequence := self._waiting.first()) is not None and len(self._running) < self._limits.slots:
            size, claimed = len(sequence.tokens), self._claimed()
            if self._running and claimed + size + _GROWTH * len(self._running) > self._limits.kv_tokens:
                return
            self._waiting.admit(sequence)
            self._take_slot(sequence)
            self._table.evict(self._table.cached + claimed + size - self._limits.kv_tokens)

    def _take_slot(self, sequence: Sequence) -> None:
        slot = sequence.slot = self._table.take(sequence.id, sequence.tokens)
        self._running[sequence.id] = sequence
        if not sequence.admitted:
            shared = slot.prefix.length if slot.prefix else slot.length
            sequence.cached = min(slot.length, len(sequence.prompt))
            self._waiting.charge(sequence.client, len(sequence.tokens) - shared)
        self._admissions += 1
        sequence.admitted = self._admissions

    def _leave(self, sequence: Sequence) -> Slot:
        """Takes a sequence out of those that run; its slot, which somebody has to free."""
        del self._running[sequence.id]
        self._prefill.forget(sequence)
        slot, sequence.slot = sequence.slot, None
        assert slot is not None  # noqa: S101  # it ran
        return slot

    def _claimed(self) -> int:
        """Tokens that the slots in use hold when their sequences have caught up."""
        return sum(len(sequence.tokens) for sequence in self._running.values())

    # -------------------------------------------------------------------------------------- a step

    def _copy_prefixes(self, allowance: Allowance) -> None:
        """Copies what others hold already."""
        for sequence in self._running.values():
            if sequence.slot is not None and sequence.slot.prefix is not None:
                copied = self._table.copy(sequence.slot, allowance.tokens * COPIED_PER_COMPUTED)
                allowance.spend(-(-copied // COPIED_PER_COMPUTED))
                if sequence.generated == len(sequence.prior):
                    sequence.cached = min(sequence.cached + copied, sequence.cacheable)

    def _line_up(self) -> list[Sequence]:
        """Brings what decodes into the first rows; returns it by row."""
        decoding = {s.id: s for s in self._running.values() if s.decodes}
        outside = [s.slot.row for s in decoding.values() if s.slot and s.slot.row >= len(decoding)]
        inside = [slot.row for slot in self._table.slots[: len(decoding)] if slot.owner not in decoding]
        for row, hole in zip(outside, inside, strict=True):
            self._table.swap(row, hole)
        return [decoding[slot.owner] for slot in self._table.slots[: len(decoding)]]

    def _drafts(self, decoding: list[Sequence], guessing: Guessing) -> dict[int, tuple[int, ...]]:
        """The guesses to try, by sequence. Cached tokens go for them, running sequences don't."""
        most = guessing.most(len(decoding))
        found = {s.id: s.drafts(most, self._limits.max_length) for s in decoding} if most else {}
        room = self._limits.kv_tokens - self._claimed()
        if not found or sum(map(len, found.values())) > room:
            return {}
        count = guessing.choose({sequence: len(tokens) for sequence, tokens in found.items()})
        drafts = {sequence: tokens[:count] for sequence, tokens in found.items()}
        self._table.evict(self._table.cached + sum(map(len, drafts.values())) - room)
        return drafts

    def _decoded(self, row: Row, chosen: list[int]) -> Iterator[Committed]:
        """The tokens that a row got, as far as the guesses were right."""
        sequence = self._running.get(row.sequence)
        for place, token in enumerate(chosen):
            if sequence is None or sequence.slot is None:
                return
            sequence.slot.length += 1
            guessed = row.drafts[place : place + 1] == (token,)
            yield self._append(sequence, token, guessed=guessed)
            if not guessed:
                return

    def _append(self, sequence: Sequence, token: int, *, guessed: bool = False) -> Committed:
        self._waiting.charge(sequence.client, 1)
        finish = sequence.append(token, self._limits.max_length)
        if finish is not None:
            self.remove(sequence.id)
        return Committed(sequence.id, token, finish, guessed, sequence.cached)
