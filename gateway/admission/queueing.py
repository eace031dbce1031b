"""When waiting generations will be done, by the rule that workers' queues follow. Pure.

A pool has slots. Each is free from some time on; whoever is first in line takes the one that is free first.
The line goes by priority, then by what is due first, then by who came first: what a worker does within one
client (``workers/runtime/engine/waiting.py``). Its fairness between clients is not foreseen.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

NEVER: Final = float("inf")


class Place(NamedTuple):
    """A place in line; the lesser one goes first."""

    urgency: int
    """Negated priority."""
    due: float
    """When it has to be done, in seconds from now; infinite if never."""
    arrival: int


class Waiting(NamedTuple):
    """A generation without a slot."""

    place: Place
    seconds: float
    """That it will take once it has one."""
    slots: int = 1
    """That it needs: one a choice."""


class Times(NamedTuple):
    """When a generation begins and ends, in seconds from now."""

    start: float
    end: float


def times(free: Sequence[float], waiting: Iterable[Waiting]) -> dict[Place, Times]:
    """When each of the waiting begins and ends.

    Args:
        free: For each slot, when it is free, in seconds from now.
        waiting: In any order.
    """
    slots = list(free)
    heapq.heapify(slots)
    found = {}
    for place, seconds, wanted in sorted(waiting):
        start = 0.0
        for _ in range(wanted):
            start = max(start, heapq.heapreplace(slots, max(slots[0], 0.0) + seconds))
        found[place] = Times(start, start + seconds)
    return found


def harms(before: dict[Place, Times], after: dict[Place, Times], caution: float) -> bool:
    """Whether somebody who would have been done in time without the newcomer no longer is."""
    return any(then.end * caution <= place.due < after[place].end * caution for place, then in before.items())
