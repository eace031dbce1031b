"""A generation on one worker after another, until one has brought it to its end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from diplex.errors import (
    DiplexError,
    Draining,
    EngineCrashed,
    InsufficientMemory,
    InternalError,
    ModelNotFound,
    QueueFull,
    Unavailable,
    WorkerLost,
)
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway import attempt
from gateway.attempt import GenerateStream
from gateway.caller import Caller
from gateway.conversion import wanted_by
from gateway.fleet.facts import Wanted
from gateway.fleet.fleet import Fleet
from gateway.resilience.config import ResilienceConfig
from gateway.resilience.relayed import Relayed, Served
from gateway.routing.router import Candidate

_LOG: Final = structlog.get_logger()

_OF_ONE_WORKER: Final = (Unavailable, InsufficientMemory, QueueFull, ModelNotFound)
"""Errors that another worker may not have, once the plan has found one that should serve."""
_GONE: Final = (WorkerLost, EngineCrashed, Draining)
"""Those of them after which somebody may soon be there again."""


@dataclass(slots=True)
class _Losses:
    """The workers that a generation has lost in a row, without anything new for the client between them."""

    since: float
    """When the first was lost, or the last that had admitted it, on the event loop's clock."""
    error: DiplexError
    """Of the last one."""
    failed: set[str] = field(default_factory=set)
    """Addresses of those that aren't to be tried again yet."""
    rounds: int = 0
    """How often all were tried."""
    killed: float = 0
    """Engines that the generation may have killed; a broken connection, which has other reasons, is half."""

    def add(self, worker: str, error: DiplexError, now: float, *, admitted: bool) -> None:
        """Adds one.

        A connection that breaks before a worker has admitted the generation was broken before, most likely.
        """
        self.error = error
        self.failed.add(worker)
        if isinstance(error, EngineCrashed):
            self.killed += 1
        if admitted:
            self.killed += isinstance(error, WorkerLost) / 2
            self.since = now

    def next_round(self) -> None:
        self.failed.clear()
        self.rounds += 1


class Attempts:
    """Runs generations on a fleet.

    Args:
        fleet: The workers.
        choose: Who can serve a caller's request, best first; raises if nobody can.
        config: Bounds.
    """

    def __init__(
        self,
        fleet: Fleet,
        choose: Callable[[Wanted, Caller], tuple[Candidate, ...]],
        config: ResilienceConfig,
    ) -> None:
        self._fleet = fleet
        self._choose = choose
        self._config = config

    async def run(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        candidates: Sequence[Candidate] = (),
        *,
        whole: bool = False,
        avoid: Collection[str] = (),
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """What workers send of a generation, each event once, whoever it comes from.

        Until the client has its ``accepted``, a lost worker's place is taken by any other that can serve;
        then by one of the same backend and precision, which goes on behind what was relayed.

        Args:
            request: A checked one, as the client sent it.
            caller: On whose behalf.
            relayed: What the client has of it already; kept up to date.
            candidates: Who can serve it now, best first, if that was just found out.
            whole: Nobody reads along; the deltas may come at the end.
            avoid: Addresses of workers that are only taken if there is no other.

        Raises:
            DiplexError: What is not a lost worker's fault; or the last one's, once nobody can go on.
        """
        losses = None
        while True:
            begun = relayed.sequence > 0
            if candidates:
                candidate, candidates = _first(candidates, avoid), ()
            else:
                wanted = wanted_of(request, relayed)
                candidate = await self._candidate(wanted, caller, losses, begun=begun, avoid=avoid)
            relayed.attempts += 1
            relayed.worker = candidate.worker.address
            if not begun:
                deployment = candidate.deployment
                relayed.served = Served(deployment.model, deployment.backend, deployment.precision)
            before, admitted = relayed.sequence, False
            try:
                with self._attempt(candidate, request, caller, relayed, whole=whole) as stream:
                    while (response := await stream.read()) is not None:
                        admitted = admitted or response.kind != worker_pb2.EVENT_KIND_PROGRESS
                        if relayed.take(response, time.time()):
                            yield response
                if relayed.complete:
                    return
                raise InternalError(f"worker {candidate.worker.name} ended a generation without a receipt")
            except _OF_ONE_WORKER as error:
                if losses is None or relayed.sequence > before:
                    losses = _Losses(asyncio.get_running_loop().time(), error)
                self._lost(error, candidate, losses, admitted=admitted)

    def has_other(self, request: pb.GenerateRequest, caller: Caller, worker: str) -> bool:
        """Whether another worker than the one at that address could serve a request now."""
        return any(it.worker.address != worker for it in self._servable(wanted_by(request), caller))

    @contextmanager
    def _attempt(
        self,
        candidate: Candidate,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        *,
        whole: bool,
    ) -> Iterator[GenerateStream]:
        call = self._fleet.generate_call(candidate.worker)
        stream = attempt.begin(call, candidate, request, caller, relayed, whole=whole)
        try:
            yield stream
        finally:
            stream.cancel()

    def _lost(self, error: DiplexError, candidate: Candidate, losses: _Losses, *, admitted: bool) -> None:
        """Notes a lost worker; raises its error if nobody else is to be tried."""
        now = asyncio.get_running_loop().time()
        losses.add(candidate.worker.address, error, now, admitted=admitted)
        if losses.killed >= self._config.most_losses:
            raise error
        _LOG.warning("next worker", lost=candidate.worker.name, reason=error.reason, error=error.message)

    async def _candidate(
        self,
        wanted: Wanted,
        caller: Caller,
        losses: _Losses | None,
        *,
        begun: bool,
        avoid: Collection[str],
    ) -> Candidate:
        """The best worker that hasn't failed; behind a loss, if there is none, waits for one."""
        if losses is None:
            return _first(self._choose(wanted, caller), avoid)
        while True:
            servable = self._servable(wanted, caller)
            fresh = [it for it in servable if it.worker.address not in losses.failed]
            if fresh:
                return _first(fresh, avoid)
            if not begun and not isinstance(losses.error, _GONE):
                raise losses.error  # everybody who could serve has said no
            if servable:
                await self._pause(caller, losses)
            else:
                await self._change(caller, losses)

    async def _pause(self, caller: Caller, losses: _Losses) -> None:
        """Waits until those that have failed may be tried again."""
        config = self._config
        pause = min(config.pause_first_seconds * 2**losses.rounds, config.pause_most_seconds)
        losses.next_round()
        async with self._bounded(caller, losses):
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # no secret depends on it

    async def _change(self, caller: Caller, losses: _Losses) -> None:
        """Waits for the fleet to change."""
        async with self._bounded(caller, losses), aclosing(self._fleet.snapshots()) as snapshots:
            await anext(snapshots)
            await anext(snapshots)

    @asynccontextmanager
    async def _bounded(self, caller: Caller, losses: _Losses) -> AsyncGenerator[None]:
        """Ends a wait when nobody is to wait any longer, with the error that says why."""
        until = losses.since + self._config.wait_seconds
        try:
            async with asyncio.timeout_at(until if caller.deadline is None else min(until, caller.deadline)):
                yield
        except TimeoutError:
            caller.remaining()  # raises if that is why
            raise losses.error from None

    def _servable(self, wanted: Wanted, caller: Caller) -> tuple[Candidate, ...]:
        try:
            return self._choose(wanted, caller)
        except DiplexError:  # nobody can, at the moment
            return ()


def _first(candidates: Sequence[Candidate], avoid: Collection[str]) -> Candidate:
    return next((it for it in candidates if it.worker.address not in avoid), candidates[0])


def wanted_of(request: pb.GenerateRequest, relayed: Relayed) -> Wanted:
    """Who may serve a request; of one that a worker has admitted, who can go on with it."""
    wanted, served = wanted_by(request), relayed.served
    if not relayed.sequence or served is None:
        return wanted
    return replace(wanted, model=served.model, backend=served.backend, precision=served.precision)
