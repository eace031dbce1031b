"""Requests against a gateway, as many at a time or as many a second as was asked for."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

from diplex.bench.doors import Door, Refused
from diplex.bench.prompts import PromptBook
from diplex.bench.streams import Stream

_PAUSE: Final = 0.25
"""Seconds for which a client that was refused waits, unless it was told how long."""
_LONGEST_PAUSE: Final = 2.0
_WARM_TOKENS: Final = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """How the load looks."""

    clients: int
    """Requests at a time, each of which is followed by the next; without ``rate``."""
    rate: float | None
    """Requests a second, which arrive at random times (a Poisson process) however many run."""
    seconds: float | None
    """How long requests begin; those that run then are cut short. ``None``: no limit."""
    requests: int | None
    """How many begin; all are waited for. ``None``: no limit."""
    prompt_tokens: tuple[int, ...]
    """Lengths of prompts, which requests have in turn."""
    max_tokens: int
    """Tokens of each answer."""
    seed: int = 0


@dataclass(slots=True)
class Seen:
    """What was measured so far."""

    began: float = 0.0
    ended: float = 0.0
    """Times of ``time.perf_counter``; ``ended`` is 0 while it runs."""
    cpu_seconds: float = 0.0
    """CPU time of this process, which generates the load."""
    streams: list[Stream] = field(default_factory=list)
    """All that brought a token, those that were cut short too."""
    whole: list[Stream] = field(default_factory=list)
    """Those that were read to their end."""
    refused: Counter[str] = field(default_factory=Counter)
    """Reason to number of requests that failed for it."""
    examples: dict[str, str] = field(default_factory=dict)
    """Reason to what was said first."""

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return (self.ended or time.perf_counter()) - self.began


class Load:
    """One run of a load.

    Args:
        door: What it goes through.
        book: Writes the prompts.
        shape: How it looks.
    """

    def __init__(self, door: Door, book: PromptBook, shape: Shape) -> None:
        self._door = door
        self._book = book
        self._shape = shape
        self._numbers = itertools.count(1)
        self._stop = asyncio.Event()
        self.seen = Seen()

    async def warm(self) -> None:
        """Has every client answered once, so that no connection is made while it is measured.

        Raises:
            Refused: One of them was not.
        """
        length = min(self._shape.prompt_tokens)
        prompts = [self._book.prompt(length, -number) for number in range(self._shape.clients)]
        await asyncio.gather(*(self._read(Stream(length, 0.0), prompt, _WARM_TOKENS) for prompt in prompts))

    def stop(self) -> None:
        """Ends it; what was measured stays."""
        self._stop.set()

    async def run(self) -> None:
        """Returns when the load is over; :attr:`seen` grows meanwhile."""
        seen, cpu = self.seen, time.process_time()
        seen.began = time.perf_counter()
        running = asyncio.create_task(self._closed() if self._shape.rate is None else self._open())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait(
                (running, stopping), timeout=self._shape.seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            seen.ended = time.perf_counter()
            seen.cpu_seconds = time.process_time() - cpu
            for task in (running, stopping):
                task.cancel()
            await asyncio.wait((running, stopping))
        if not running.cancelled():
            running.result()

    async def _closed(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._shape.clients):
                group.create_task(self._client())

    async def _client(self) -> None:
        while (number := self._next()) is not None:
            if (pause := await self._one(number)) is not None:
                await asyncio.sleep(pause)

    async def _open(self) -> None:
        draw = random.Random(self._shape.seed)  # noqa: S311  # arrivals
        at = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while (number := self._next()) is not None:
                at += draw.expovariate(self._shape.rate or 1.0)
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
                group.create_task(self._one(number))

    def _next(self) -> int | None:
        number = next(self._numbers)
        return None if self._shape.requests is not None and number > self._shape.requests else number

    async def _one(self, number: int) -> float | None:
        """Sends a request and reads its stream; how many seconds to wait if it failed."""
        length = self._shape.prompt_tokens[number % len(self._shape.prompt_tokens)]
        prompt = self._book.prompt(length, number)
        stream = Stream(length, time.perf_counter())
        try:
            await self._read(stream, prompt, self._shape.max_tokens)
        except Refused as error:
            self.seen.refused[error.reason] += 1
            self.seen.examples.setdefault(error.reason, error.message)
            return min(error.retry_after or _PAUSE, _LONGEST_PAUSE)
        finally:
            if stream.counts:
                self.seen.streams.append(stream)
        if stream.counts:
            self.seen.whole.append(stream)
        return None

    async def _read(self, stream: Stream, prompt: list[int], tokens: int) -> None:
        async with aclosing(self._door.generate(prompt, tokens)) as messages:
            async for count in messages:
                stream.times.append(time.perf_counter())
                stream.counts.append(count)
