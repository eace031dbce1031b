"""Hedged requests: a whole answer that is late is asked of a second worker, and the first answer counts.

After Dean and Barroso, "The Tail at Scale", Communications of the ACM 56 (2013): waiting for the 95th
percentile of recent durations first bounds the additional load to about a twentieth.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Final

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.caller import Caller
from gateway.resilience.attempts import Attempts
from gateway.resilience.config import ResilienceConfig
from gateway.resilience.relayed import Relayed
from gateway.routing.router import Candidate

_REMEMBERED: Final = 256
"""Durations that are remembered, a model."""
_ENOUGH: Final = 20
"""Durations that say anything of their percentiles."""


class Hedged:
    """Runs generations as :class:`Attempts` does, and hedges whole answers if that is wanted.

    Args:
        attempts: Runs them.
        config: Whether and when a second worker is asked.
    """

    def __init__(self, attempts: Attempts, config: ResilienceConfig) -> None:
        self._attempts = attempts
        self._config = config
        self._durations: dict[str, deque[float]] = {}  # model, as asked for -> seconds of answers

    def run(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        candidates: Sequence[Candidate] = (),
        *,
        whole: bool = False,
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """See :meth:`Attempts.run`."""
        if not (whole and self._config.hedge) or relayed.sequence:
            return self._attempts.run(request, caller, relayed, candidates, whole=whole)
        return self._hedged(request, caller, relayed, candidates)

    async def _hedged(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        candidates: Sequence[Candidate],
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        for response in await self._answer(request, caller, relayed, candidates):
            yield response

    async def _answer(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        candidates: Sequence[Candidate],
    ) -> list[worker_pb2.GenerateResponse]:
        began = time.monotonic()
        first = asyncio.create_task(self._collected(request, caller, relayed, candidates))
        racing = {first}
        try:
            await asyncio.wait(racing, timeout=self._delay(request.model))
            second = Relayed(relayed.seed, attempts=relayed.attempts)
            if not first.done() and self._attempts.has_other(request, caller, relayed.worker):
                avoid = (relayed.worker,)
                racing.add(asyncio.create_task(self._collected(request, caller, second, avoid=avoid)))
            answer = await _first_good(racing)
        finally:
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)
        if not relayed.complete:
            relayed.become(second)
        self._durations.setdefault(request.model, deque(maxlen=_REMEMBERED)).append(time.monotonic() - began)
        return answer

    async def _collected(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        candidates: Sequence[Candidate] = (),
        avoid: Collection[str] = (),
    ) -> list[worker_pb2.GenerateResponse]:
        responses = self._attempts.run(request, caller, relayed, candidates, whole=True, avoid=avoid)
        async with aclosing(responses):
            return [response async for response in responses]

    def _delay(self, model: str) -> float | None:
        """Seconds after which an answer is late; ``None`` while nobody knows."""
        known = sorted(self._durations.get(model, ()))
        if len(known) < _ENOUGH:
            return None
        usual = known[int(len(known) * self._config.hedge_quantile)]
        return max(usual, self._config.hedge_least_seconds)


async def _first_good(
    racing: Collection[asyncio.Task[list[worker_pb2.GenerateResponse]]],
) -> list[worker_pb2.GenerateResponse]:
    """The first answer; the last error if there is none.

    Raises:
        DiplexError: What the last one failed with.
    """
    left = set(racing)
    while True:
        done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        good = next((task for task in done if task.exception() is None), None)
        if good or not left:
            return (good or done.pop()).result()
