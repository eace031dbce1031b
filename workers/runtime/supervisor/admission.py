"""Memory for models, given out one at a time in the order in which it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Final

from diplex.errors import InsufficientMemory
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.residency import Budget, Evict, Fits, Refuse, Wait, Wanted, decide
from workers.runtime.supervisor.tenancy import Tenancy

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Admission:
    """Keeps what is given out within a budget. Used in one event loop.

    Args:
        budget: Bytes that all processes may take together; ``None`` for no limit.
        tenants: Everyone who may hold memory.
        evict: Unloads a model; returns once its memory is free.
        changes: Notified whenever somebody becomes idle or gives memory back.
        own: Bytes that the worker takes beside its models.
    """

    def __init__(
        self,
        budget: int | None,
        tenants: Callable[[], Iterable[Tenancy]],
        evict: Callable[[Tenancy], Awaitable[None]],
        changes: Changes,
        own: Callable[[], int] | None = None,
    ) -> None:
        self._own = own or own_bytes
        self.budget = budget
        self._tenants = tenants
        self._evict = evict
        self._changes = changes
        self._turn = asyncio.Lock()

    async def obtain(self, tenancy: Tenancy, size: int, purpose: str = "") -> None:
        """Gives a model its memory, in the place of what it has; waits for it if it has to.

        Args:
            tenancy: Who asks.
            size: Bytes.
            purpose: Stands before the model's name in messages.

        Raises:
            InsufficientMemory: It doesn't fit beside what has to stay.
        """
        if self.budget is None:
            tenancy.reserved = size
            return
        try:
            if self._turn.locked():
                tenancy.waits("waits for memory behind another model")
            async with self._turn:
                await self._obtain(self.budget, tenancy, Wanted(purpose + tenancy.name, size))
        finally:
            tenancy.waits("")

    async def _obtain(self, budget: int, tenancy: Tenancy, wanted: Wanted) -> None:
        while True:
            seen = self._changes.count
            others = [other for other in self._tenants() if other is not tenancy and other.reserved]
            match decide(Budget(budget, self._own()), [other.resident for other in others], wanted):
                case Fits():
                    tenancy.reserved = wanted.size
                    return
                case Evict(names):
                    await self._evict(next(other for other in others if other.name == names[0]))
                case Wait(names):
                    tenancy.waits(f"waits for memory until {' or '.join(names)} is idle")
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
