"""Generations that go on without their clients, and what they have said: for clients that come back."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from diplex.errors import Cancelled, DiplexError, IdempotencyKeyReused, InternalError
from gateway.resilience.config import ResilienceConfig

_LOG: Final = structlog.get_logger()
_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True)
class Name:
    """What tells recordings apart: an idempotency key is one caller's own."""

    principal: str
    client: str
    key: str


Source = AsyncGenerator[tuple[int, bytes]]
"""A generation's events with their sequence numbers."""


class Recording:
    """The events of one generation, which runs by itself.

    Args:
        source: The generation; closed at the end, whatever that is.
        base: Sequence number behind which it begins.
        digest: Of its request.
        linger: Seconds that it goes on without a reader.
        changed: Called with the bytes that an event adds, and with 0 at the end.
    """

    def __init__(
        self,
        source: Source,
        base: int,
        digest: bytes,
        linger: float,
        changed: Callable[[Recording, int], None],
    ) -> None:
        self._base = base
        self.digest = digest
        self.bytes = 0
        self.ended_at: float | None = None
        """On the event loop's clock."""
        self.error: DiplexError | None = None
        """What ended it, if that wasn't its receipt."""
        self._linger = linger
        self._changed = changed
        self._numbers: list[int] = []  # sequence numbers of the events
        self._events: list[bytes] = []
        self._news = asyncio.Event()  # set with the next event or the end, then replaced
        self._readers = 0
        self._run = asyncio.create_task(self._record(source), name="recording")
        self._leaving: asyncio.TimerHandle | None = None  # while there is no reader
        self._leave_later()

    def holds(self, after: int) -> bool:
        """Whether it can be read from behind that event."""
        return self._base <= after

    async def read(self, after: int) -> AsyncGenerator[bytes]:
        """The events behind a sequence number, those that are there and those that come.

        Raises:
            DiplexError: What ended the generation.
        """
        self._enter()
        try:
            index = bisect_right(self._numbers, after) if after else 0
            while True:
                news = self._news
                while index < len(self._events):
                    yield self._events[index]
                    index += 1
                if self.ended_at is None:
                    await news.wait()
                elif index == len(self._events):
                    break
            if self.error is not None:
                raise self.error
        finally:
            self._leave()

    async def stop(self) -> None:
        """Ends the generation, if it hasn't ended."""
        self._run.cancel()
        await asyncio.wait([self._run])

    async def _record(self, source: Source) -> None:
        try:
            async with aclosing(source):
                async for number, event in source:
                    self._numbers.append(number)
                    self._events.append(event)
                    self.bytes += len(event)
                    self._tell(len(event))
        except DiplexError as error:
            self.error = error
        except asyncio.CancelledError:
            self.error = Cancelled("nobody came back for the generation")
        except Exception as error:  # noqa: BLE001  # a defect, which must not leave anybody waiting
            _LOG.error("defect", exc_info=error)
            self.error = InternalError(f"{type(error).__name__} while the generation was relayed")
        finally:
            self.ended_at = asyncio.get_running_loop().time()
            if self._leaving is not None:
                self._leaving.cancel()
            self._tell(0)

    def _tell(self, size: int) -> None:
        self._news.set()
        self._news = asyncio.Event()
        self._changed(self, size)

    def _enter(self) -> None:
        self._readers += 1
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _leave(self) -> None:
        self._readers -= 1
        if self._readers == 0 and self.ended_at is None:
            self._leave_later()

    def _leave_later(self) -> None:
        self._leaving = asyncio.get_running_loop().call_later(self._linger, self._run.cancel)


class Recordings:
    """The recordings of one gateway process, bounded in memory and time.

    Args:
        config: The bounds.
    """

    def __init__(self, config: ResilienceConfig) -> None:
        self._config = config
        self._most_bytes = config.keep_mib * _MEBIBYTE
        self._running: dict[Name, Recording] = {}
        self._ended: dict[Name, Recording] = {}  # in the order of their ends
        self._bytes = 0  # of all of them

    def find(self, name: Name, digest: bytes) -> Recording | None:
        """The recording of that name, if there is one.

        Raises:
            IdempotencyKeyReused: It is that of another request.
        """
        recording = self._running.get(name) or self._ended.get(name)
        if recording is not None and recording.digest != digest:
            raise IdempotencyKeyReused(
                f"the idempotency key {name.key!r} names another request's generation; take a fresh one"
            )
        return recording

    def begin(self, name: Name, digest: bytes, base: int, source: Callable[[], Source]) -> Recording | None:
        """Records a generation, which begins at once; ``None`` if there is no room for another one."""
        if self._bytes >= self._most_bytes:
            return None
        self._let_go(name)

        def changed(recording: Recording, size: int) -> None:
            if self._running.get(name) is recording:
                self._bytes += size
                if recording.ended_at is not None:
                    self._keep(name, recording)
                if self._bytes > self._most_bytes:
                    self._expire()

        recording = Recording(source(), base, digest, self._config.linger_seconds, changed)
        self._running[name] = recording
        return recording

    async def close(self) -> None:
        """Ends those that still run."""
        await asyncio.gather(*(recording.stop() for recording in list(self._running.values())))

    def _keep(self, name: Name, recording: Recording) -> None:
        """Keeps what has come to its end; what has failed is to be tried again."""
        del self._running[name]
        if recording.error is not None:
            self._bytes -= recording.bytes
            return
        self._ended[name] = recording
        asyncio.get_running_loop().call_later(self._config.keep_seconds, self._expire)

    def _expire(self) -> None:
        """Lets go of answers whose time is over, or for which there is no room."""
        until = asyncio.get_running_loop().time() - self._config.keep_seconds
        for name, recording in list(self._ended.items()):
            ended_at = recording.ended_at or 0.0
            if ended_at > until and self._bytes <= self._most_bytes:
                break
            self._let_go(name)

    def _let_go(self, name: Name) -> None:
        recording = self._ended.pop(name, None) or self._running.pop(name, None)
        if recording is not None:
            self._bytes -= recording.bytes
