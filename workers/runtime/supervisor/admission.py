"""Memory for models, given out one at a time in the order in which it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

from diplex.errors import InsufficientMemory
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.residency import Budget, Evict, Fits, Refuse, Resident, Wait, Wanted, decide

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Holder(Protocol):
    """Who holds memory, or asks for it."""

    reserved: int
    """Bytes that it has been given."""

    @property
    def resident(self) -> Resident:
        """Itself as the policy sees it."""

    def waits(self, names: tuple[str, ...]) -> None:
        """Told for whom it waits; for nobody any longer when there are no names."""


class Admission:
    """Keeps what is given out within a budget. Used in one event loop.

    Args:
        budget: Bytes that all processes may take together; ``None`` for no limit.
        holders: Everyone who may hold memory.
        evict: Unloads a model; returns once its memory is free.
        changes: Notified whenever somebody becomes idle or gives memory back.
    """

    def __init__(
        self,
        budget: int | None,
        holders: Callable[[], Iterable[Holder]],
        evict: Callable[[Holder], Awaitable[None]],
        changes: Changes,
    ) -> None:
        self.budget = budget
        self._holders = holders
        self._evict = evict
        self._changes = changes
        self._turn = asyncio.Lock()

    async def obtain(self, holder: Holder, name: str, size: int) -> None:
        """Gives a holder its memory, in the place of what it has; waits for it if it has to.

        Args:
            holder: Who asks.
            name: What for, as messages name it.
            size: Bytes.

        Raises:
            InsufficientMemory: It doesn't fit beside what has to stay.
        """
        if self.budget is None:
            holder.reserved = size
            return
        async with self._turn:
            try:
                await self._obtain(self.budget, holder, Wanted(name, size))
            finally:
                holder.waits(())

    async def _obtain(self, budget: int, holder: Holder, wanted: Wanted) -> None:
        while True:
            seen = self._changes.count
            others = {other.resident.name: other for other in self._holders() if other is not holder}
            residents = [other.resident for other in others.values() if other.reserved]
            match decide(Budget(budget, own_bytes()), residents, wanted):
                case Fits():
                    holder.reserved = wanted.size
                    return
                case Evict(names):
                    await self._evict(others[names[0]])
                case Wait(names):
                    holder.waits(names)
                    await self._changes.after(seen)
                case Refuse(message):
                    raise InsufficientMemory(
                        message, metadata={"needed_bytes": str(wanted.size), "budget_bytes": str(budget)}
                    )


def own_bytes() -> int:
    """Resident memory of this process; 0 where that can't be read."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0
