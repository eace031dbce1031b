"""One call to one worker: how it is made, what its errors mean, and how long it may take."""

from __future__ import annotations

import time
from typing import Final, Protocol, cast

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from diplex import errors, status
from diplex.errors import DiplexError
from diplex.v1 import generation_pb2
from diplex.worker.v1 import worker_pb2
from gateway.caller import Caller
from gateway.conversion import precision_number
from gateway.fleet.facts import Worker
from gateway.resilience.relayed import Relayed
from gateway.routing.router import RETRY_SECONDS, Candidate

_BROKEN: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)
"""Codes that, without our details, come from gRPC itself: the connection or the process is gone."""


class GenerateStream(Protocol):
    """A running call of a worker's ``Generate``."""

    async def read(self) -> worker_pb2.GenerateResponse | None:
        """The next event; ``None`` behind the last one.

        Raises:
            DiplexError: What the worker refused or failed with; ``WorkerLost`` if the connection broke.
        """

    def cancel(self) -> None:
        """Ends it."""


class GenerateCall(Protocol):
    """Calls a worker's ``Generate``."""

    def __call__(
        self,
        message: worker_pb2.GenerateRequest,
        *,
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> GenerateStream:
        """Makes the call."""


_LEAST_LIMIT: Final = 0.001
"""Seconds of its time limit that a generation has left at least when it is gone on with."""


def begin(
    call: GenerateCall,
    candidate: Candidate,
    request: generation_pb2.GenerateRequest,
    caller: Caller,
    relayed: Relayed,
    *,
    whole: bool,
) -> GenerateStream:
    """Asks one worker for a generation, or for the rest of it.

    Args:
        call: Makes the call.
        candidate: The worker and its deployment.
        request: As the client sent it.
        caller: On whose behalf.
        relayed: What the client has of it already, and how many workers were tried, this one included.
        whole: Nobody reads along; the deltas may come at the end.

    Raises:
        DeadlineExceeded: The caller's deadline has passed already.
    """
    message = worker_pb2.GenerateRequest(
        request_id=caller.request_id,
        request=request,
        prior=relayed.prior(),
        client=caller.client,
        attempt=relayed.attempts,
        whole=whole,
        after_sequence=relayed.sequence,
    )
    message.request.model = candidate.deployment.model
    message.request.precision = precision_number(candidate.deployment.precision)
    message.request.sampling.seed = relayed.seed
    message.request.ClearField("idempotency_key")
    message.request.ClearField("resume")
    _spend(message.request, relayed)
    return call(message, timeout=caller.remaining(), metadata=caller.metadata)


def _spend(request: generation_pb2.GenerateRequest, relayed: Relayed) -> None:
    """Takes the time since the generation was admitted off its limit, if it has one."""
    if relayed.admitted_at is None or not request.HasField("time_limit"):
        return
    left = request.time_limit.ToNanoseconds() / 1e9 - (time.time() - relayed.admitted_at)
    request.time_limit.FromNanoseconds(int(max(left, _LEAST_LIMIT) * 1e9))


def error_of(error: grpc.aio.AioRpcError, worker: Worker) -> DiplexError:
    """What a failed call to a worker means: the worker's own error, or that the worker was lost."""
    details = _details_of(error)
    if details is not None:
        known = status.from_rpc_status(details)
    elif error.code() in _BROKEN:
        told = error.details() or "no details"
        known = errors.WorkerLost(
            f"the connection to worker {worker.name or worker.address} broke "
            f"({error.code().name}: {told}); try again",
            retry_after=RETRY_SECONDS,
        )
    elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        known = errors.DeadlineExceeded("the caller's deadline passed")
    else:
        known = status.from_rpc_status(status_pb2.Status(code=error.code().value[0], message=error.details()))
    known.metadata.setdefault("worker", worker.name)
    return known


def _details_of(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    try:
        # from_call asks for nothing that AioRpcError lacks.
        return rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:
        # gRPC replaced the worker's code by one of its own, and the details contradict it.
        return None
