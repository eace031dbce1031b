"""Which models stay in memory. Pure: numbers in, a decision out; no clock, no processes.

The rules: what fits is loaded. Else models that are idle go, the one first that was used longest ago, and no
more of them than needed. Busy ones are never taken, they are waited for; pinned ones stay. What can't fit
beside those is refused with the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Budget:
    """What the processes of a worker may take together."""

    total: int
    """Bytes, the worker's own process included."""
    own: int
    """Bytes that the worker's own process takes."""

    @property
    def for_models(self) -> int:
        """Bytes that are left for engines."""
        return self.total - self.own


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in memory, or on its way there."""

    name: str
    """As messages name it."""
    size: int
    """Bytes that it may come to."""
    busy: bool = False
    """Has requests, or is being loaded."""
    pinned: bool = False
    """Stays whatever is asked for."""
    last_used: float = 0.0
    """When its last request ended, seconds of any clock."""
    keep_alive: float | None = None
    """Seconds after ``last_used`` in which it is kept; ``None`` for ever."""

    @property
    def evictable(self) -> bool:
        """Whether it may be unloaded now."""
        return not self.busy and not self.pinned


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that is to be loaded."""

    name: str
    size: int
    """Bytes that it may come to."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Load it now."""


@dataclass(frozen=True, slots=True)
class Evict:
    """Unload these first."""

    names: tuple[str, ...]
    """The one that was used longest ago first."""


@dataclass(frozen=True, slots=True)
class Wait:
    """It fits once some of these are idle; nothing is unloaded before."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refuse:
    """It doesn't fit beside what has to stay."""

    message: str
    """Need, budget, who holds what, and what to do."""


Decision = Fits | Evict | Wait | Refuse


def decide(budget: Budget, residents: Sequence[Resident], wanted: Wanted) -> Decision:
    """What has to happen before a model can be loaded.

    Args:
        budget: For all of them.
        residents: The other models; the wanted one is not among them.
        wanted: The model.
    """
    pinned = sum(each.size for each in residents if each.pinned)
    if wanted.size > budget.for_models - pinned:
        return Refuse(_refusal(budget, residents, wanted))
    missing = wanted.size + sum(each.size for each in residents) - budget.for_models
    if missing <= 0:
        return Fits()
    idle = [each for each in residents if each.evictable]
    if sum(each.size for each in idle) < missing:
        return Wait(tuple(each.name for each in residents if each.busy and not each.pinned))
    return Evict(tuple(each.name for each in _least(idle, missing)))


def expired(residents: Iterable[Resident], now: float) -> tuple[str, ...]:
    """Names of the idle models whose time is over."""
    return tuple(each.name for each in residents if (end := _end(each)) is not None and end <= now)


def next_expiry(residents: Iterable[Resident]) -> float | None:
    """When the next of them will be; ``None`` for never, as long as all stays as it is."""
    return min((end for each in residents if (end := _end(each)) is not None), default=None)


def _end(resident: Resident) -> float | None:
    if not resident.evictable or resident.keep_alive is None:
        return None
    return resident.last_used + resident.keep_alive


def _least(idle: list[Resident], missing: int) -> list[Resident]:
    """The longest unused ones that free enough, without those that turn out not to be needed for it."""
    chosen: list[Resident] = []
    freed = 0
    for each in sorted(idle, key=lambda each: each.last_used):
        if freed >= missing:
            break
        chosen.append(each)
        freed += each.size
    for each in reversed(chosen.copy()):
        if freed - each.size >= missing:
            chosen.remove(each)
            freed -= each.size
    return chosen


def _refusal(budget: Budget, residents: Sequence[Resident], wanted: Wanted) -> str:
    holders = [f"the worker itself {_mib(budget.own)}"]
    holders += [f"{each.name} {_mib(each.size)} (pinned)" for each in residents if each.pinned]
    unpin = " unpin a model," if len(holders) > 1 else ""
    return (
        f"{wanted.name} needs {_mib(wanted.size)} of memory; of the budget of {_mib(budget.total)}, "
        f"{', '.join(holders)} can't be given: raise --memory-budget,{unpin} or let it need less "
        "with a lower --max-length, --slots or --kv-mib, or a smaller profile"
    )


def _mib(size: int) -> str:
    return f"{-(-size // _MEBIBYTE)} MiB"
