"""Who and what is in which slot: a table whose changes become part of the next plan. Pure.

A slot whose sequence has ended keeps its tokens: they are the prefix cache. A sequence that begins with what
a slot holds, be that slot free or not, need not compute it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from workers.runtime.engine.plan import Change, Copy, Release, Swap

LEAST_PREFIX: Final = 16
"""Tokens in common below which computing is as good as copying."""
_TAIL_LOST: Final = 8
"""A cached slot is taken over in place if that costs at most this fraction (one in so many) of its tokens."""
_KEPT: Final = 64
"""Tokens behind those of its sequence whose memory a slot keeps: to give pages back and make them anew takes
a fiftieth of the time in which a batch computes as many tokens."""
NOBODY: Final = -1


@dataclass(slots=True, eq=False)
class Slot:
    """One slot of the KV cache."""

    row: int
    """Where it is now."""
    owner: int = NOBODY
    """The sequence that uses it."""
    tokens: list[int] = field(default_factory=list)
    """What it holds; shared with its sequence, and only ever appended to."""
    length: int = 0
    """How many of ``tokens`` have their keys and values in the slot."""
    prefix: Prefix | None = None
    """What is still to be copied into it."""
    used: int = 0
    """When it was last of use, as a count of the table's events."""

    @property
    def free(self) -> bool:
        """Whether no sequence uses it. What it holds is cache then."""
        return self.owner == NOBODY

    @property
    def promised(self) -> int:
        """Tokens that it holds or is going to hold by computing them itself: what may be waited for."""
        return self.length if self.free or self.prefix is not None else len(self.tokens)


@dataclass(frozen=True, slots=True)
class Prefix:
    """Tokens that can be copied from another slot."""

    source: Slot
    length: int


class SlotTable:
    """All slots by row.

    Args:
        rows: How many there are.
        most_cached: Tokens that free slots may hold together; 0 turns the prefix cache off.
    """

    def __init__(self, rows: int, most_cached: int) -> None:
        self.slots = [Slot(row) for row in range(rows)]  # row -> slot
        self._most_cached = most_cached
        self._changes: list[Change] = []
        self._events = 0

    @property
    def cached(self) -> int:
        """Tokens that free slots hold."""
        return sum(slot.length for slot in self.slots if slot.free)

    def take_changes(self) -> tuple[Change, ...]:
        """What has to be done to the slots since the last call, in this order."""
        changes, self._changes = tuple(self._changes), []
        return changes

    def take(self, owner: int, tokens: list[int]) -> Slot:
        """Gives a sequence a slot. Some slot must be free.

        The slot's ``length`` says how much of ``tokens`` it holds already, and its ``prefix`` what can be
        copied into it from another slot, which may still be computing it.
        """
        best, common = self._longest_prefix(tokens)
        slot = self._slot_for(best, common)
        if slot.length > len(tokens) + _KEPT:
            self._changes.append(Release(slot.row, len(tokens) + _KEPT))
        slot.owner, slot.tokens, slot.length = owner, tokens, common if best is slot else 0
        self._touch(slot)
        if best is not None and best is not slot:
            slot.prefix = Prefix(best, common)
            self._touch(best)
        return slot

    def copy(self, target: Slot, most: int) -> int:
        """Copies the next ``most`` tokens of a slot's prefix and says how many that were.

        Nothing is copied while the source is still computing the prefix. The slot's ``prefix`` is ``None``
        once there is no more to be had.
        """
        if target.prefix is None:
            return 0
        source, length = target.prefix.source, target.prefix.length
        if common_prefix(source.tokens, target.tokens, length) < length:
            target.prefix = None  # somebody else has the source now
            return 0
        if source.length < length <= source.promised:
            return 0
        there = min(source.length, length)
        start, end = target.length, min(there, target.length + most)
        if start < end:
            self._changes.append(Copy(source.row, target.row, start, end))
            target.length = end
        if end >= there:
            target.prefix = None
        return max(end - start, 0)

    def free(self, slot: Slot) -> None:
        """Takes a slot from its sequence; what it holds stays as cache, within the budget."""
        slot.owner, slot.prefix = NOBODY, None
        self._touch(slot)
        held = slot.length
        self.evict(self.cached - self._most_cached)
        if slot.length == held:
            self._changes.append(Release(slot.row, held))

    def discard(self, slot: Slot) -> None:
        """Takes a slot from its sequence and forgets what it holds."""
        slot.owner, slot.prefix = NOBODY, None
        self._cut(slot, 0)

    def evict(self, tokens: int) -> None:
        """Forgets at least so many cached tokens, or all: what was of use least recently, from its end on."""
        for slot in sorted(self.slots, key=lambda slot: slot.used):
            if tokens <= 0:
                return
            if slot.free and slot.length:
                before = slot.length
                kept = max(before - tokens, 0)
                self._cut(slot, kept if kept >= LEAST_PREFIX else 0)
                tokens -= before - slot.length

    def swap(self, a: int, b: int) -> None:
        """Exchanges two rows."""
        self.slots[a], self.slots[b] = self.slots[b], self.slots[a]
        self.slots[a].row, self.slots[b].row = a, b
        self._changes.append(Swap(a, b))

    def _cut(self, slot: Slot, length: int) -> None:
        slot.length = length
        self._changes.append(Release(slot.row, length))

    def _touch(self, slot: Slot) -> None:
        self._events += 1
        slot.used = self._events

    def _longest_prefix(self, tokens: list[int]) -> tuple[Slot | None, int]:
        """The slot that has most in common with ``tokens``, their last one aside: that is to be computed."""
        best, best_key = None, (LEAST_PREFIX - 1, False, 0)
        if self._most_cached:
            for slot in self.slots:
                common = common_prefix(slot.tokens, tokens, min(slot.promised, len(tokens) - 1))
                key = (common, slot.free, common - slot.promised)
                if common >= LEAST_PREFIX and key > best_key:
                    best, best_key = slot, key
        return best, best_key[0] if best else 0

    def _slot_for(self, best: Slot | None, common: int) -> Slot:
        """The best slot itself if it is free and little of it is lost, else the one that is missed least."""
        if best is not None and best.free and best.length - common <= best.length // _TAIL_LOST:
            return best
        free = [slot for slot in self.slots if slot.free]
        return min(free, key=lambda slot: (slot is best, slot.used if slot.length else 0, slot.row))


def common_prefix(a: list[int], b: list[int], most: int) -> int:
    """How many tokens two lists begin with in common, ``most`` at most."""
    if not most or a[0] != b[0]:
        return 0
    low, high = 1, min(most, len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
