"""A signal that any number of tasks can wait for."""

from __future__ import annotations

import asyncio


class Changes:
    """Counts changes; a task that knows an older count than the current one has something to look at."""

    def __init__(self) -> None:
        self.count = 0
        """Changes so far."""
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Says that something changed."""
        self.count += 1
        self._next.set()
        self._next = asyncio.Event()

    async def after(self, count: int) -> int:
        """Waits until there have been more than ``count`` changes; returns how many there are now."""
        while self.count <= count:
            await self._next.wait()
        return self.count
