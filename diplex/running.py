"""The calls under way in a server, so that it knows when it has drained and can end what takes too long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from diplex.errors import Draining


class Running:
    """Calls under way, each in a task of its own."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()  # set while there are no calls
        self._idle.set()
        self._endable: set[asyncio.Task[object]] = set()
        self._ended_by_us: set[asyncio.Task[object]] = set()

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts a call while it is open: until its caller has been told how it ended."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    @contextmanager
    def endable(self) -> Iterator[None]:
        """Lets :meth:`end` end what the current task does while it is open.

        Raises:
            Draining: In the task, when it has been ended.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # gRPC serves each call in one
        self._endable.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended_by_us:
                raise
            task.uncancel()
            raise Draining(
                "the server shuts down and its time for running calls is over; try again"
            ) from None
        finally:
            self._endable.discard(task)
            self._ended_by_us.discard(task)

    def end(self) -> None:
        """Fails the calls under way with :class:`Draining`, which tells callers that others can go on."""
        self._ended_by_us.update(self._endable)
        for task in self._ended_by_us:
            task.cancel()

    async def ended(self) -> None:
        """Waits until no call is under way."""
        await self._idle.wait()
