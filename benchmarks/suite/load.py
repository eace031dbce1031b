"""Clients that read streams, and what they saw."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.servers.server import Server, StreamFailed
from diplex.bench.streams import Stream

_STREAM_SECONDS = 300
_Seen = TypeVar("_Seen")


async def read(server: Server, prompt: Sequence[int], tokens: int, stream: Stream | None = None) -> Stream:
    """One request, read to its end.

    Args:
        server: Whom to ask.
        prompt: Token ids.
        tokens: How many to ask for.
        stream: Where to record; a new one by default.

    Raises:
        StreamFailed: The server failed or took too long.
    """
    stream = stream or Stream(len(prompt), time.perf_counter())
    times, counts, now = stream.times, stream.counts, time.perf_counter
    try:
        async with asyncio.timeout(_STREAM_SECONDS), aclosing(server.generate(prompt, tokens)) as messages:
            async for count in messages:
                times.append(now())
                counts.append(count)
    except TimeoutError as error:
        raise StreamFailed(f"{server.name}: no end after {_STREAM_SECONDS} s") from error
    return stream


async def client(
    server: Server, prompts: Iterator[Sequence[int]], tokens: int, stream: Stream | None = None
) -> Stream:
    """Reads until it has its tokens.

    A server that can't ignore the end-of-sequence token may end a text early; then the client asks again,
    with its next prompt, which costs that server a prefill more than the others.

    Raises:
        StreamFailed: The server failed, or gave nothing.
    """
    stream = await read(server, next(prompts), tokens, stream)
    while stream.tokens < tokens:
        before = stream.tokens
        stream.begins.append(len(stream.times))
        await read(server, next(prompts), tokens - before, stream)
        if stream.tokens == before:
            raise StreamFailed(f"{server.name} gave no token")
    return stream


@dataclass(frozen=True, slots=True)
class Load:
    """What all clients saw, and what the load generator itself cost."""

    streams: list[Stream]
    generator_cpu_seconds: float
    """CPU time of this process meanwhile; it is taken from the same cores."""


async def run(
    server: Server, clients: int, prompts: Callable[[int], Iterator[Sequence[int]]], tokens: int
) -> Load:
    """All clients at once, each with one request.

    Args:
        server: Whom to ask.
        clients: How many.
        prompts: Makes the prompts of a client, from its number.
        tokens: What each is to get.

    Raises:
        StreamFailed: One of them failed.
    """
    ready = [_Peeked(prompts(number)) for number in range(clients)]
    before = time.process_time()
    streams = await together([client(server, each, tokens) for each in ready])
    return Load(streams, time.process_time() - before)


async def together(clients: Iterable[Coroutine[Any, Any, _Seen]]) -> list[_Seen]:
    """What all clients saw; the first that fails ends the others.

    Raises:
        StreamFailed: What it failed with.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in clients]
    except ExceptionGroup as failures:
        if failed := failures.subgroup(StreamFailed):
            raise StreamFailed(str(failed.exceptions[0])) from failures
        raise
    return [task.result() for task in tasks]


class _Peeked(Iterator[Sequence[int]]):
    """An iterator whose first item is made at once: writing prompts takes time that isn't the server's."""

    def __init__(self, items: Iterator[Sequence[int]]) -> None:
        self._first: Sequence[int] | None = next(items)
        self._rest = items

    def __next__(self) -> Sequence[int]:
        first, self._first = self._first, None
        return next(self._rest) if first is None else first
