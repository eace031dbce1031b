"""Callers of a stack's gateway that never rest, and what became of their requests."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from diplex import AsyncClient
from tests.compose.stack import MODEL

TOKENS = 300


@dataclass
class Outcome:
    """What a number of requests came to."""

    workers: Counter[str] = field(default_factory=Counter)
    """Who served how many of them, by the name in the receipt."""
    failures: list[Exception] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and cleared again, at each answer."""

    @property
    def count(self) -> int:
        """Requests that were answered in full."""
        return self.workers.total()

    async def more(self, count: int) -> None:
        """Waits until so many more are answered."""
        goal = self.count + count
        while self.count < goal:
            assert not self.failures, self.failures
            self.answered.clear()
            await self.answered.wait()


async def ask(client: AsyncClient, number: int, outcome: Outcome, tokens: int) -> None:
    """Sends one request, of a prompt that no other one begins with, and makes sure that all tokens come."""
    try:
        answer = await client.generate(
            f"{number} things", model=MODEL, min_tokens=tokens, max_tokens=tokens, timeout=90
        )
        assert answer.receipt.usage.completion_tokens == tokens
    except Exception as error:  # noqa: BLE001  # whatever it was is the test's to judge
        outcome.failures.append(error)
    else:
        outcome.workers[answer.receipt.worker] += 1
    outcome.answered.set()


@asynccontextmanager
async def traffic(address: str, *, callers: int = 6, tokens: int = TOKENS) -> AsyncIterator[Outcome]:
    """So many callers ask again and again while the block runs; what is under way at its end ends too."""
    outcome, over = Outcome(), asyncio.Event()

    async def call(client: AsyncClient, number: int) -> None:
        while not over.is_set():
            number += callers
            await ask(client, number, outcome, tokens)

    async with AsyncClient(address) as client, asyncio.TaskGroup() as tasks:
        for number in range(callers):
            tasks.create_task(call(client, number))
        try:
            yield outcome
        finally:
            over.set()
