"""Several workers of one model behind one gateway, to be broken, and streams that must not notice."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from diplex.client import AsyncClient, RawPrompt
from tests.e2e import services

MODEL = "tiny-llama/fp32"
START_SECONDS = 60
HANG_SECONDS = 150
"""Longer than any stream of these tests takes, however often its worker is lost."""


@dataclass
class Replicas:
    """Worker processes; each can be killed and started again at its address."""

    start: Callable[[int], services.Service]
    workers: list[services.Service | None]
    kills: int = 0
    _exit: ExitStack = field(default_factory=ExitStack)

    def restart(self, index: int) -> None:
        """Kills one and starts it again; doesn't wait for its model."""
        self.kill(index)
        self.workers[index] = self._exit.enter_context(self.start(index))

    def drain_and_restart(self, index: int) -> None:
        """Tells one to end, waits until it has, and starts it again; waits for its model."""
        worker = self.workers[index]
        worker.send(signal.SIGTERM)
        worker.wait()
        self.workers[index] = self._exit.enter_context(self.start(index))
        self.workers[index].entry("model ready", timeout=START_SECONDS)

    def kill(self, index: int) -> None:
        """SIGKILL; its engine dies with it."""
        worker = self.workers[index]
        if worker is not None:
            self.kills += 1
            worker.process.kill()
            worker.wait()
            self.workers[index] = None

    def __enter__(self) -> Self:
        for index in range(len(self.workers)):
            self.workers[index] = self._exit.enter_context(self.start(index))
        for worker in self.workers:
            worker.entry("model ready", timeout=START_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()


@contextmanager
def replicas(
    addresses: Sequence[str],
    home: Path,
    catalogue: Path,
    *options: str,
    inside: Sequence[Sequence[str]] | None = None,
) -> Iterator[Replicas]:
    """So many workers of the tiny model in full precision, all ready; each behind a prefix of its command."""
    own = ("--home", home, "--catalogue", catalogue, "--threads", "1", "--model", MODEL, *options)

    def start(index: int) -> services.Service:
        prefix = inside[index] if inside else ()
        serve = (sys.executable, "-m", "workers.onnx_worker", "serve", "--listen", addresses[index])
        return services.Service([*prefix, *serve, "--name", f"replica-{index}", *own])

    with Replicas(start, [None] * len(addresses)) as running:
        yield running


# ------------------------------------------------------------------------------------------ streams

WORDS = ("the", "model", "user", "assistant", "of", "to", "is", "and", "a", "who")
SAMPLING = (
    {"temperature": 0},
    {"temperature": 1.1, "top_p": 0.95, "seed": 11},
    {"temperature": 0.8, "frequency_penalty": 0.6, "seed": 5},
    {"temperature": 1.3, "n": 2, "seed": 3},
)


@dataclass(frozen=True)
class Ask:
    """One request of the load."""

    prompt: str
    options: dict
    tokens: int

    @property
    def raw(self) -> RawPrompt:
        return RawPrompt(self.prompt)

    def stream(self, client: AsyncClient, **more):
        return client.stream(self.raw, max_tokens=self.tokens, **self.options, **more)


def asks(count: int, tokens: int) -> list[Ask]:
    """Different requests, the same ones every time."""
    chance = random.Random(4)  # noqa: S311  # no secret
    return [
        Ask(" ".join(chance.choices(WORDS, k=6 + index % 9)), SAMPLING[index % len(SAMPLING)], tokens)
        for index in range(count)
    ]


@dataclass
class Outcome:
    """What a load came to."""

    completed: int = 0
    resumed: int = 0
    """Streams that more than one worker served."""
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    slowest: float = 0.0


def answer_of(generation) -> list[tuple[str, str]]:
    return [(choice.text, choice.finish_reason.name) for choice in generation.choices]


async def undisturbed(address: str, asked: Sequence[Ask]) -> list:
    """What each request gives when nothing is broken."""
    async with AsyncClient(address) as client:
        generations = await asyncio.gather(*(ask.stream(client).collect() for ask in asked))
    return [answer_of(generation) for generation in generations]


async def load(
    address: str, asked: Sequence[Ask], expected: Sequence, streams: int, until: Callable[[], bool], **client
) -> Outcome:
    """Keeps so many streams going, each to its end, until it is time to stop."""
    outcome, numbers = Outcome(), itertools.count()

    async def keep_going(client: AsyncClient) -> None:
        while not until():
            number = next(numbers) % len(asked)
            began = time.monotonic()
            try:
                async with asyncio.timeout(HANG_SECONDS):
                    generation = await asked[number].stream(client).collect()
            except Exception as error:  # noqa: BLE001  # whatever it is, the test is to tell of it
                outcome.failed.append(f"{number}: {type(error).__name__}: {error}")
                continue
            outcome.completed += 1
            outcome.resumed += generation.receipt.attempts > 1
            outcome.slowest = max(outcome.slowest, time.monotonic() - began)
            if answer_of(generation) != expected[number]:
                outcome.wrong.append(f"{number}: {answer_of(generation)} instead of {expected[number]}")

    async with AsyncClient(address, **client) as shared:
        await asyncio.gather(*(keep_going(shared) for _ in range(streams)))
    return outcome
