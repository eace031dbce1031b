"""All workers of a gateway: their links, and a snapshot that changes as they do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self

from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway.attempt import GenerateCall
from gateway.config import GatewayConfig
from gateway.fleet import facts
from gateway.fleet.link import Link


class Fleet:
    """Holds a link to each configured worker while it is open (``async with``)."""

    def __init__(self, config: GatewayConfig) -> None:
        self._links = {  # address -> link, in the configured order
            address: Link(address, config, self._take_change) for address in config.workers
        }
        self._snapshot = self._take_snapshot()
        self._changed = asyncio.Event()  # set at the next change, then replaced

    async def __aenter__(self) -> Self:
        for link in self._links.values():
            link.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def stub(self, worker: facts.Worker) -> worker_pb2_grpc.WorkerServiceAsyncStub:
        """The calls of one worker."""
        return self._links[worker.address].stub

    def generate_call(self, worker: facts.Worker) -> GenerateCall:
        """The one of them that streams a generation."""
        return self._links[worker.address].generate

    def states(self) -> list[worker_pb2.WatchResponse]:
        """What the connected workers last said of themselves; not to be changed."""
        return [
            link.state for link in self._links.values() if link.worker.connected and link.state is not None
        ]

    def _take_change(self) -> None:
        self._snapshot = self._take_snapshot()
        self._changed.set()
        self._changed = asyncio.Event()

    def _take_snapshot(self) -> facts.Fleet:
        return facts.Fleet(tuple(link.worker for link in self._links.values()))
