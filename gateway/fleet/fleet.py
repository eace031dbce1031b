"""All workers of a gateway: their links, a snapshot that changes as they do, and who serves what next."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

import structlog
from opentelemetry.trace import SpanKind

from diplex import tracing
from diplex.errors import WorkerLost
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway import prompt
from gateway.attempt import GenerateCall
from gateway.config import GatewayConfig
from gateway.fleet import facts
from gateway.fleet.discovery import Discovery, Resolve
from gateway.fleet.flight import Flight
from gateway.fleet.link import Link
from gateway.routing.balancer import Balancer
from gateway.routing.router import RETRY_SECONDS, Candidate, Plan

_LOG: Final = structlog.get_logger()


class Fleet:
    """Holds a link to each worker that is configured or found, while it is open (``async with``).

    Args:
        config: The gateway's.
        resolve: What looks workers' names up; ``None`` for the operating system.
    """

    def __init__(self, config: GatewayConfig, resolve: Resolve | None = None) -> None:
        self._config = config
        self._name = uuid.uuid4().hex
        """Tells workers what comes from this process."""
        self._balancer = Balancer(config.routing)
        self._discovery = Discovery(config.workers, config.discovery, self._take_endpoints, resolve)
        self._links = {  # address -> link, in the configured order
            it.address: Link(it, config, self._name, self._take_change) for it in self._discovery.endpoints
        }
        self._retiring: set[asyncio.Task[None]] = set()
        self._snapshot = self._take_snapshot()
        self._changed = asyncio.Event()  # set at the next change, then replaced

    async def __aenter__(self) -> Self:
        for link in self._links.values():
            link.open()
        self._discovery.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._discovery.close()
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(link.close() for link in self._links.values()))

    @property
    def snapshot(self) -> facts.Fleet:
        """The workers as they are now."""
        return self._snapshot

    async def snapshots(self) -> AsyncGenerator[facts.Fleet]:
        """The workers as they are now, then after changes; changes in quick succession come as one."""
        while True:
            changed = self._changed
            yield self._snapshot
            await changed.wait()

    def plan(self, wanted: facts.Wanted, default_model: str) -> Plan:
        """Who could serve a request, best first; see :func:`gateway.routing.router.plan`. Changes nothing."""
        return self._balancer.plan(wanted, self._snapshot, default_model)

    def choose(self, plan: Plan) -> tuple[Candidate, ...]:
        """Those who can serve a request that is going to be served, best first; never empty.

        Raises:
            DiplexError: Nobody can.
        """
        return self._balancer.choose(plan)

    @contextmanager
    def stub(self, worker: facts.Worker) -> Iterator[worker_pb2_grpc.WorkerServiceAsyncStub]:
        """The calls of one worker; its connection stays while this is open.

        Raises:
            WorkerLost: The worker has vanished since it was planned with.
        """
        link = self._link(worker)
        with link.in_use():
            yield link.stub

    def generate_call(self, worker: facts.Worker) -> GenerateCall:
        """The one of them that streams a generation, counted as load of the worker.

        Raises:
            WorkerLost: The worker has vanished since it was planned with.
        """
        link = self._link(worker)

        def call(
            message: worker_pb2.GenerateRequest,
            *,
            timeout: float | None,
            metadata: tuple[tuple[str, str], ...],
        ) -> Flight:
            span, within = tracing.start("attempt", tracing.context_of(metadata), SpanKind.CLIENT)
            tracing.describe(span, lambda: _attributes(worker, message))
            message.gateway = self._name
            until_end = ExitStack()
            until_end.callback(span.end)
            until_end.enter_context(link.in_use())
            passage = self._balancer.begin(
                worker.address, message.request.model, prompt.tokens_of(message.request), until_end.close
            )
            on_wire = tracing.joined(metadata, within)
            return Flight(link.generate(message, timeout=timeout, metadata=on_wire), worker, passage, span)

        return call

    def states(self) -> list[worker_pb2.WatchResponse]:
        """What the connected workers last said of themselves; not to be changed."""
        return [
            link.state for link in self._links.values() if link.worker.connected and link.state is not None
        ]

    def _link(self, worker: facts.Worker) -> Link:
        link = self._links.get(worker.address)
        if link is None:
            told = f"worker {worker.name or worker.address} is no longer part of the fleet; try again"
            raise WorkerLost(told, metadata={"worker": worker.name}, retry_after=RETRY_SECONDS)
        return link

    def _take_endpoints(self) -> None:
        """Links what is new; lets go of what has vanished, once its calls have ended."""
        before, self._links = self._links, {}
        for endpoint in self._discovery.endpoints:
            if (link := before.pop(endpoint.address, None)) is None:
                link = Link(endpoint, self._config, self._name, self._take_change)
                link.open()
            self._links[endpoint.address] = link
        for address, link in before.items():
            _LOG.info("worker vanished", worker=link.worker.name, address=address)
            self._balancer.forget(address)
            task = asyncio.create_task(link.retire(), name=f"retire {address}")
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._take_change()

    def _take_change(self) -> None:
        self._snapshot = self._take_snapshot()
        self._changed.set()
        self._changed = asyncio.Event()

    def _take_snapshot(self) -> facts.Fleet:
        return facts.Fleet(tuple(link.worker for link in self._links.values()))


def _attributes(worker: facts.Worker, message: worker_pb2.GenerateRequest) -> dict[str, str | int]:
    """What a span says of a call."""
    return {
        "rpc.system": "grpc",
        "server.address": worker.address,
        "gen_ai.request.model": message.request.model,
        "diplex.worker": worker.name,
        "diplex.attempt": message.attempt,
    }
