"""A generation on its way from a worker, and what the gateway learns about the worker from it."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

import grpc
from opentelemetry.trace import Span

from diplex import tracing
from diplex.errors import EngineCrashed, InternalError, WorkerLost
from diplex.worker.v1 import worker_pb2
from gateway.attempt import error_of
from gateway.fleet.facts import Worker

_WORKERS_FAULT: Final = (WorkerLost, EngineCrashed, InternalError)
"""Errors that speak against the worker, and not against the request or the moment."""


class Passage(Protocol):
    """Is told how one generation fares; see ``gateway.routing.balancer``."""

    def passed(self, tokens: int) -> None:
        """So many generated tokens went by."""

    def failed(self, reason: str) -> None:
        """The worker failed it."""

    def ended(self) -> None:
        """It is over, however. May be called again."""


class WorkerCall(Protocol):
    """A call of a worker's ``Generate``, as gRPC has it or multiplexed."""

    async def read(self) -> object:
        """The next ``GenerateResponse``; anything else behind the last one.

        Raises:
            grpc.aio.AioRpcError: The call has failed.
        """

    def cancel(self) -> object:
        """Ends it; nothing if it has ended."""


class Flight:
    """One call of ``Generate``, with the two methods of a gRPC call that the gateway uses.

    Args:
        call: The call, just made.
        worker: Where to.
        passage: Is told.
        span: Of the call; ends with the passage.
    """

    def __init__(
        self,
        call: WorkerCall,
        worker: Worker,
        passage: Passage,
        span: Span,
    ) -> None:
        self._call = call
        self._worker = worker
        self._passage = passage
        self._span = span
        self._following: deque[worker_pb2.GenerateResponse] = deque()  # came with the last message

    async def read(self) -> worker_pb2.GenerateResponse | None:
        """The next event; ``None`` behind the last one.

        With the first that is no progress, the worker has admitted the request.

        Raises:
            DiplexError: What the worker refused or failed with; ``WorkerLost`` if the connection broke.
        """
        if self._following:
            return self._following.popleft()
        try:
            response = await self._call.read()
        except grpc.aio.AioRpcError as error:
            known = error_of(error, self._worker)
            tracing.fail(self._span, known.reason)
            if isinstance(known, _WORKERS_FAULT):
                self._passage.failed(known.reason)
            self._passage.ended()
            raise known from error
        if not isinstance(response, worker_pb2.GenerateResponse):
            self._passage.ended()
            return None
        if tokens := len(response.token_ids):
            self._passage.passed(tokens)
        if response.following:
            self._following.extend(response.following)
        return response

    def cancel(self) -> None:
        """Tells the worker to stop; nothing if it has ended."""
        self._call.cancel()
        self._passage.ended()
