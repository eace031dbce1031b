"""Runs a cell once on a server that has been started for it."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from benchmarks.servers.child import Child
from benchmarks.servers.server import Server
from benchmarks.suite import load
from benchmarks.suite.cells import (
    BurstCell,
    Cell,
    ChatCell,
    FirstTokenCell,
    LoadCell,
    MixedCell,
    NeighbourCell,
)
from benchmarks.suite.metrics import (
    Figures,
    decode_rate,
    first_token_ms,
    load_figures,
    percentile,
    stall_ratio,
    whole_rate,
)
from benchmarks.suite.prompts import PromptBook
from diplex.bench.streams import Stream

_FIRST_ONLY = 4
_MIXED_TOKENS = 224
"""What a running stream gets after the long prompt has arrived, at most."""
_MIXED_AFTER = 4
"""Tokens of the long prompt's answer."""
_POLL_SECONDS = 0.005
_MIB = 1 << 20

_Time = tuple[float, float]
"""From when to when, in seconds."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A server, a book, and the names that make prompts unique."""

    server: Server
    book: PromptBook
    seed: tuple[object, ...]
    """Cell and round; the same for every server, so that all get the same prompts."""

    def prompts(self, length: int, *seed: object) -> Iterator[Sequence[int]]:
        """Any number of different prompts."""
        return (self.book.prompt(length, *self.seed, *seed, number) for number in itertools.count())

    async def run(self, cell: Cell) -> Figures:
        """Measures.

        Raises:
            StreamFailed: The server failed.
        """
        match cell:
            case LoadCell():
                return await self._load(cell)
            case FirstTokenCell():
                return await self._first_token(cell)
            case ChatCell():
                return await self._chat(cell)
            case MixedCell():
                return await self._mixed(cell)
            case NeighbourCell():
                return await self._neighbour(cell)
            case BurstCell():
                return await self._burst(cell)

    async def _load(self, cell: LoadCell) -> Figures:
        seen = await load.run(
            self.server,
            cell.clients,
            lambda number: self.prompts(cell.prompt_tokens, number),
            cell.new_tokens,
        )
        return load_figures(seen.streams, seen.generator_cpu_seconds)

    async def _first_token(self, cell: FirstTokenCell) -> Figures:
        cold: list[float] = []
        cached: list[float] = []
        for prompt in itertools.islice(self.prompts(cell.prompt_tokens), cell.tries):
            for times in (cold, cached):
                times.append(first_token_ms(await load.read(self.server, prompt, _FIRST_ONLY)))
        cold_ms, cached_ms = statistics.median(cold), statistics.median(cached)
        return {"cold_ttft_ms": cold_ms, "cached_ttft_ms": cached_ms, "cached_over_cold": cached_ms / cold_ms}

    async def _chat(self, cell: ChatCell) -> Figures:
        chats = [
            self.book.conversation(
                cell.turns, cell.system_tokens, cell.message_tokens, *self.seed, number
            ).prompts
            for number in range(cell.clients)
        ]

        async def talk(turns: list[list[int]]) -> list[Stream]:
            # An answer that ends early is an answer: the next turn doesn't depend on it.
            return [await load.read(self.server, turn, cell.new_tokens) for turn in turns]

        answers = await load.together(talk(turns) for turns in chats)
        first = [first_token_ms(streams[0]) for streams in answers]
        later = [first_token_ms(stream) for streams in answers for stream in streams[1:]]
        return {
            "whole_tok_s": whole_rate([stream for streams in answers for stream in streams]),
            "first_turn_ttft_p50_ms": percentile(first, 50),
            "later_turns_ttft_p50_ms": percentile(later, 50),
            "later_turns_ttft_p99_ms": percentile(later, 99),
        }

    async def _mixed(self, cell: MixedCell) -> Figures:
        prompt = self.book.prompt(cell.long_tokens, *self.seed, "long")

        async def arrives() -> _Time:
            long = await load.read(self.server, prompt, _MIXED_AFTER)
            return long.sent, long.times[0]

        beside, (sent, answered) = await self._worst_gap(cell, "beside", arrives)

        async def passes() -> _Time:
            began = time.perf_counter()
            await asyncio.sleep(answered - sent)
            return began, time.perf_counter()

        alone, _ = await self._worst_gap(cell, "alone", passes)
        return {
            "worst_gap_over_median": beside,
            "worst_gap_alone": alone,
            "long_ttft_ms": 1e3 * (answered - sent),
        }

    async def _worst_gap(
        self, cell: MixedCell, name: str, meanwhile: Callable[[], Awaitable[_Time]]
    ) -> tuple[float, _Time]:
        """The longest gap of running streams in some time, over each one's median before, and the time."""
        streams = [Stream(cell.prompt_tokens, time.perf_counter()) for _ in range(cell.streams)]
        tokens = cell.warm_tokens + _MIXED_TOKENS
        running = [
            asyncio.create_task(
                load.client(self.server, self.prompts(cell.prompt_tokens, name, number), tokens, stream)
            )
            for number, stream in enumerate(streams)
        ]
        try:
            while any(stream.tokens < cell.warm_tokens for stream in streams):
                await asyncio.sleep(_POLL_SECONDS)
                for task in running:
                    if task.done():
                        task.result()  # failed, since none can have its tokens yet
            began, ended = await meanwhile()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        ratios = [stall_ratio(stream, began, ended) for stream in streams]
        return max(ratio for ratio in ratios if ratio is not None), (began, ended)

    async def _neighbour(self, cell: NeighbourCell) -> Figures:
        async def rate(name: str) -> float:
            stream = Stream(cell.prompt_tokens, time.perf_counter())
            prompts = self.prompts(cell.prompt_tokens, name)
            with suppress(TimeoutError):
                async with asyncio.timeout(cell.most_seconds):
                    await load.client(self.server, prompts, cell.new_tokens, stream)
            return decode_rate([stream])

        idle = await rate("idle")
        with _busy_core():
            busy = await rate("busy")
        return {"idle_tok_s": idle, "busy_tok_s": busy, "kept": busy / idle}

    async def _burst(self, cell: BurstCell) -> Figures:
        tree = self.server.tree
        before = tree.resident_bytes
        await load.run(
            self.server,
            cell.clients,
            lambda number: self.prompts(cell.prompt_tokens, number),
            cell.new_tokens,
        )
        after = tree.resident_bytes
        await asyncio.sleep(cell.idle_seconds)
        idle = tree.resident_bytes
        return {
            "before_mib": before / _MIB,
            "after_mib": after / _MIB,
            "after_idle_mib": idle / _MIB,
            "after_idle_over_before": idle / before,
        }


@contextmanager
def _busy_core() -> Iterator[None]:
    """Another process keeps one core busy."""
    neighbour = Child([sys.executable, "-c", "while True: pass"], {})
    try:
        yield
    finally:
        neighbour.kill()
