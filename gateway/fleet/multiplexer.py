"""Calls of a worker's ``Generate`` that share one call of ``Multiplex``, and so the cost of its messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from typing import Final

import grpc

from diplex.status import DETAILS_KEY
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc

_PAUSED_AT: Final = 64
"""Responses that wait for whoever passes them on, at which the worker is told to hold the rest back."""
_UNPAUSED_AT: Final = 16
"""And at which it may send again."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class Multiplexer:
    """Makes calls of one worker; what carries them is opened with the first, and anew when it has broken.

    Args:
        stub: Of a worker that multiplexes.
    """

    def __init__(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> None:
        self._stub = stub
        self._carrier: _Carrier | None = None

    def generate(
        self,
        message: worker_pb2.GenerateRequest,
        *,
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> MultiplexedCall:
        """Makes a call, like the stub's ``Generate``."""
        if self._carrier is None or self._carrier.ended:
            self._carrier = _Carrier(self._stub)
        return self._carrier.begin(message, timeout, metadata)

    async def close(self) -> None:
        """Takes no more calls; returns when those under way have ended, also at the worker."""
        if self._carrier is not None:
            await self._carrier.close()


class MultiplexedCall:
    """One call under way, with the two methods of a gRPC call that the gateway uses."""

    def __init__(self, number: int, carrier: _Carrier, timeout: float | None) -> None:
        self._number = number
        self._carrier = carrier
        self._responses: deque[worker_pb2.GenerateResponse] = deque()
        self._ended = False  # nothing follows the responses but the error, if there is one
        self._error: grpc.aio.AioRpcError | None = None
        self._paused = False
        self._reader: asyncio.Future[None] | None = None  # waits for a response, or the end
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            late = _error(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
            self._timer = asyncio.get_running_loop().call_later(timeout, self._give_up, late)

    async def read(self) -> worker_pb2.GenerateResponse | None:
        """The next response; ``None`` behind the last one.

        Raises:
            grpc.aio.AioRpcError: The call has failed, or what carries it has.
        """
        while not self._responses:
            if self._error is not None:
                raise self._error
            if self._ended:
                return None
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        response = self._responses.popleft()
        if self._paused and len(self._responses) <= _UNPAUSED_AT:
            self._pause(paused=False)
        return response

    def cancel(self) -> None:
        """Ends it, if it hasn't ended."""
        self._give_up(_error(grpc.StatusCode.CANCELLED, "cancelled by the gateway"))

    def take(self, event: worker_pb2.MultiplexedEvent) -> None:
        """Takes what the worker has sent of it."""
        if event.WhichOneof("event") == "end":
            self.finish(_error_of(event.end))
            return
        self._responses.append(event.response)
        self._wake()
        if not self._paused and len(self._responses) >= _PAUSED_AT:
            self._pause(paused=True)

    def finish(self, error: grpc.aio.AioRpcError | None) -> None:
        """Ends it as the worker, or what carries it, says."""
        if not self._ended:
            self._ended, self._error = True, error
            if self._timer is not None:
                self._timer.cancel()
            self._wake()

    def _give_up(self, error: grpc.aio.AioRpcError) -> None:
        if not self._ended:
            self._carrier.cancel(self._number)
            self._responses.clear()
            self.finish(error)

    def _pause(self, *, paused: bool) -> None:
        self._paused = paused
        if not self._ended:
            self._carrier.send(worker_pb2.MultiplexRequest(id=self._number, pause=paused))

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Carrier:
    """One call of ``Multiplex`` and the calls on it."""

    def __init__(self, stub: worker_pb2_grpc.WorkerServiceAsyncStub) -> None:
        self.ended = False
        """Whether it takes no more calls."""
        self._calls: dict[int, MultiplexedCall] = {}
        self._begun = 0
        self._waiting: deque[worker_pb2.MultiplexRequest] = deque()
        self._filled = asyncio.Event()  # set while there are requests to send, or none may follow
        self._call = stub.Multiplex(self._requests())
        self._reading = asyncio.create_task(self._read(), name="multiplexed responses")

    def begin(
        self,
        message: worker_pb2.GenerateRequest,
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> MultiplexedCall:
        self._begun += 1
        begin = worker_pb2.MultiplexedCall(
            request=message.SerializeToString(), metadata=dict(metadata), timeout_seconds=timeout
        )
        self.send(worker_pb2.MultiplexRequest(id=self._begun, begin=begin))
        call = self._calls[self._begun] = MultiplexedCall(self._begun, self, timeout)
        return call

    def cancel(self, number: int) -> None:
        """Ends a call; what the worker has sent of it by now is of no interest."""
        del self._calls[number]
        self.send(worker_pb2.MultiplexRequest(id=number, cancel=True))

    def send(self, request: worker_pb2.MultiplexRequest) -> None:
        """Sends a request behind those that wait."""
        self._waiting.append(request)
        self._filled.set()

    async def close(self) -> None:
        """Half-closes behind the last call; returns when the worker has ended all of them."""
        self.ended = True
        self._filled.set()
        try:
            await asyncio.shield(self._reading)
        finally:
            self._call.cancel()

    async def _requests(self) -> AsyncGenerator[worker_pb2.MultiplexRequest]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self.ended and not self._calls:
                return
            self._filled.clear()
            await self._filled.wait()

    async def _read(self) -> None:
        """Hands out what comes; whatever ends that ends all calls."""
        broken = _error(grpc.StatusCode.UNAVAILABLE, "the worker ended the stream of all calls")
        try:
            while isinstance(response := await self._call.read(), worker_pb2.MultiplexResponse):
                for event in response.events:
                    self._hand_out(event)
        except grpc.aio.AioRpcError as error:
            broken = error
        except asyncio.CancelledError:
            broken = _error(grpc.StatusCode.CANCELLED, "the connection was closed")
        finally:
            self.ended = True
            for call in self._calls.values():
                call.finish(broken)
            self._calls.clear()
            self._filled.set()

    def _hand_out(self, event: worker_pb2.MultiplexedEvent) -> None:
        call = self._calls.get(event.id)
        if call is not None:
            call.take(event)
            if event.HasField("end"):
                del self._calls[event.id]
                self._filled.set()


def _error_of(end: worker_pb2.MultiplexedEnd) -> grpc.aio.AioRpcError | None:
    code = _CODES.get(end.code, grpc.StatusCode.UNKNOWN)
    return None if code is grpc.StatusCode.OK else _error(code, end.message, end.details)


def _error(code: grpc.StatusCode, message: str, details: bytes = b"") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata((DETAILS_KEY, details)) if details else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)
