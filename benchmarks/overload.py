"""Overload: what a gateway lets in, how soon it refuses the rest, and whether what it tells them is true.

    python -m benchmarks.overload [--loads 1 10] [--seconds 30]

One worker with the default model, behind a gateway. Before and after each load, capacity is measured with
as many requests at once as the worker has slots; the mean of both counts, since a machine that others use is
faster at one time than at another. No prompt is sent twice but by who comes back. Then requests arrive at
random (a Poisson process) at multiples of that, each with a deadline. Goodput is the answers a second that
came before their deadline. Whoever is refused sends the same request again after the ``RetryInfo`` that it
was told, if that is before the end of the load.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks.stack import Stack
from diplex import errors
from diplex.client import AsyncClient
from diplex.polling import poll_without_event_engine

_MODEL: Final = "SmolLM2-135M-Instruct"
_TOKENS: Final = 48
_SLOTS: Final = 8
_CAPACITY_SECONDS: Final = 10.0
_DEADLINE: Final = 3.0
"""In times that a request takes when all slots are in use."""
_PROMPT: Final = "{}: count the ways in which a gateway can say no."
_NUMBERS: Final = itertools.count()


@dataclass
class Outcome:
    """What became of the requests of one load."""

    offered: float
    """Requests a second."""
    seconds: float
    in_time: list[float] = field(default_factory=list)
    """Seconds that answers took."""
    late: int = 0
    refusals: list[float] = field(default_factory=list)
    """Seconds until refusals came, repeated requests included."""
    waits: list[float] = field(default_factory=list)
    """Seconds that ``RetryInfo`` told."""
    came_back: int = 0
    served_then: int = 0
    failed: dict[str, int] = field(default_factory=dict)

    def row(self) -> dict[str, object]:
        """The figures."""
        admitted = len(self.in_time) + self.late
        return {
            "offered_rps": round(self.offered, 2),
            "goodput_rps": round(len(self.in_time) / self.seconds, 2),
            "admitted": admitted,
            "late": self.late,
            "p50_s": _quantile(self.in_time, 0.5),
            "p99_s": _quantile(self.in_time, 0.99),
            "refused": len(self.refusals),
            "refusal_p50_ms": _quantile(self.refusals, 0.5, 1000),
            "refusal_p99_ms": _quantile(self.refusals, 0.99, 1000),
            "retry_after_p50_s": _quantile(self.waits, 0.5),
            "came_back": self.came_back,
            "served_then": self.served_then,
            "failed": self.failed,
        }


class Load:
    """Sends requests at a rate for a while.

    Args:
        clients: Connections, taken in turn.
        deadline: Seconds that a request may take.
        returning: Share of the refused that come back.
    """

    def __init__(self, clients: list[AsyncClient], deadline: float, returning: float) -> None:
        self._clients = clients
        self._deadline = deadline
        self._returning = returning
        self._random = random.Random(1)  # noqa: S311  # draws arrivals

    async def run(self, rate: float, seconds: float) -> Outcome:
        """Requests arrive at ``rate`` a second for so long; returns once all are over."""
        outcome = Outcome(rate, seconds)
        tasks: set[asyncio.Task[None]] = set()
        now = asyncio.get_running_loop().time
        end = now() + seconds
        at = now()
        while (at := at + self._random.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, at - now()))
            comes_back = self._random.random() < self._returning
            task = asyncio.create_task(self._one(outcome, next(_NUMBERS), end, comes_back=comes_back))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        return outcome

    async def _one(self, outcome: Outcome, number: int, end: float, *, comes_back: bool) -> None:
        wait = await self._call(outcome, number)
        now = asyncio.get_running_loop().time
        if wait is None:
            return
        outcome.waits.append(wait)
        if not comes_back or now() + wait > end:
            return
        await asyncio.sleep(wait)
        outcome.came_back += 1
        if await self._call(outcome, number) is None:
            outcome.served_then += 1

    async def _call(self, outcome: Outcome, number: int) -> float | None:
        """Sends one; the seconds after which it may come back if it was refused."""
        client = self._clients[number % len(self._clients)]
        begun = time.perf_counter()
        try:
            await client.generate(
                _PROMPT.format(number), max_tokens=_TOKENS, temperature=0, timeout=self._deadline
            )
        except errors.DeadlineUnreachable as error:
            outcome.refusals.append(time.perf_counter() - begun)
            return error.retry_after
        except errors.DeadlineExceeded:
            outcome.late += 1
        except errors.DiplexError as error:
            outcome.failed[error.reason] = outcome.failed.get(error.reason, 0) + 1
        else:
            outcome.in_time.append(time.perf_counter() - begun)
        return None


async def _capacity(client: AsyncClient, seconds: float) -> tuple[float, float]:
    """Requests a second with all slots in use, and the median of the seconds that one then takes."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < end:
            begun = time.perf_counter()
            await client.generate(_PROMPT.format(next(_NUMBERS)), max_tokens=_TOKENS, temperature=0)
            taken.append(time.perf_counter() - begun)

    await asyncio.gather(*(work() for _ in range(_SLOTS)))
    return len(taken) / seconds, statistics.median(taken)


async def _measure(address: str, factor: float, seconds: float) -> dict[str, object]:
    clients = [AsyncClient(address) for _ in range(4)]
    before, residence = await _capacity(clients[0], _CAPACITY_SECONDS)
    deadline = _DEADLINE * residence
    outcome = await Load(clients, deadline, returning=1.0).run(factor * before, seconds)
    after, _ = await _capacity(clients[0], _CAPACITY_SECONDS)
    capacity = (before + after) / 2
    for client in clients:
        await client.close()
    known = {
        "load": factor,
        "capacity_rps": [round(before, 2), round(after, 2)],
        "deadline_s": round(deadline, 2),
        "goodput_of_capacity": round(len(outcome.in_time) / seconds / capacity, 3),
    }
    return {**known, **outcome.row()}


def _quantile(values: list[float], share: float, unit: float = 1.0) -> float | None:
    if not values:
        return None
    return round(sorted(values)[min(len(values) - 1, int(share * len(values)))] * unit, 3)


def main() -> None:
    """Starts worker and gateway, and prints a line of JSON a load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 1.0, 2.0, 10.0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    arguments = parser.parse_args()
    for factor in arguments.loads:
        with Stack(models=[_MODEL], worker_options=["--slots", str(_SLOTS)]) as stack:
            row = asyncio.run(_measure(stack.address, factor, arguments.seconds))
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    poll_without_event_engine()
    main()
