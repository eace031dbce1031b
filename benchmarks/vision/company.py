"""Streams of text beside clients that ask about pictures, on one worker."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from diplex import AsyncClient, Image

STREAMS = 8
"""Of each kind."""
_TOKENS = 512
"""Of a text stream, which is begun again when it ends."""
_ANSWER = 16
"""Tokens of an answer about a picture."""


@dataclass
class Streams:
    """What some text streams got."""

    tokens: int = 0
    gaps: list[float] = field(default_factory=list)
    """Seconds between a stream's deltas."""

    def rate(self, seconds: float) -> float:
        """Tokens a second, of all streams together."""
        return self.tokens / seconds


@dataclass(frozen=True, slots=True)
class Company:
    """Text alone, and beside pictures."""

    seconds: float
    alone: Streams
    beside: Streams
    pictures: int
    """Answered meanwhile."""
    first_seconds: list[float]
    """To the first token of each answer about a picture."""
    tile_seconds: float
    """Of a tile's encoding: the time to a picture's first token with nothing else to do."""

    def report(self) -> str:
        """For people."""
        alone, beside = self.alone.rate(self.seconds), self.beside.rate(self.seconds)
        gaps = [1e3 * max(streams.gaps) for streams in (self.alone, self.beside)]
        return (
            f"{STREAMS} text streams alone: {alone:.0f} tok/s, longest gap {gaps[0]:.0f} ms\n"
            f"beside {STREAMS} clients with pictures: {beside:.0f} tok/s ({beside / alone:.2f}), longest gap "
            f"{gaps[1]:.0f} ms; first token of a lone picture {1e3 * self.tile_seconds:.0f} ms\n"
            f"{self.pictures} pictures answered, first token after "
            f"{1e3 * statistics.median(self.first_seconds):.0f} ms (median)"
        )


def beside_pictures(address: str, model: str, seconds: float, picture: Callable[[int], bytes]) -> Company:
    """Measures.

    Args:
        address: The gateway's.
        model: Serves both.
        seconds: For each half.
        picture: Makes one of a number.
    """
    return asyncio.run(_measured(address, model, seconds, picture))


async def _measured(address: str, model: str, seconds: float, picture: Callable[[int], bytes]) -> Company:
    numbers = count(1000)
    async with AsyncClient(address) as client:
        lone = await _picture(client, model, picture(next(numbers)))
        alone = await _text(client, model, seconds)
        firsts: list[float] = []

        async def looking() -> None:
            while True:
                firsts.append(await _picture(client, model, picture(next(numbers))))

        lookers = [asyncio.create_task(looking()) for _ in range(STREAMS)]
        beside = await _text(client, model, seconds)
        for looker in lookers:
            looker.cancel()
        await asyncio.gather(*lookers, return_exceptions=True)
    return Company(seconds, alone, beside, len(firsts), firsts, lone)


async def _text(client: AsyncClient, model: str, seconds: float) -> Streams:
    """Text streams for a while."""
    got = Streams()

    async def reading(number: int) -> None:
        while True:
            options = {"temperature": 0, "max_tokens": _TOKENS, "min_tokens": _TOKENS}
            async with client.stream(f"Tell me story {number}.", model=model, **options) as stream:
                latest = None
                async for delta in stream:
                    now = time.perf_counter()
                    got.tokens += delta.tokens
                    if latest is not None:
                        got.gaps.append(now - latest)
                    latest = now

    readers = [asyncio.create_task(reading(number)) for number in range(STREAMS)]
    await asyncio.sleep(seconds)
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return got


async def _picture(client: AsyncClient, model: str, image: bytes) -> float:
    """Seconds to the first token of an answer."""
    began, first = time.perf_counter(), 0.0
    chat = [{"role": "user", "content": [Image(image), "What is in this image?"]}]
    options = {"temperature": 0, "max_tokens": _ANSWER, "min_tokens": _ANSWER}
    async with client.stream(chat, model=model, **options) as stream:
        async for _ in stream:
            first = first or time.perf_counter() - began
    return first
