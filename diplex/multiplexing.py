"""Many calls of a streaming method over one call of ``Multiplex``: the side that serves them.

Each of them is served as if gRPC had brought it: by the same handler, in a task of its own, with metadata,
deadline and status. Their responses wait in a common outbox while a message is being sent, and the next
message holds all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, cast

import grpc

from diplex.errors import InvalidRequest
from diplex.status import DETAILS_KEY
from diplex.worker.v1 import worker_pb2

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[bytes, Context], Awaitable[None]]
"""Serves one call: takes the request's bytes and gRPC's view of the call, and writes the responses there."""
Parse = Callable[[bytes], worker_pb2.MultiplexRequest]

_MOST_WAITING: Final = 1024
"""Events in the outbox before which calls that write more have to wait."""


async def serve(handler: Handler, context: Context, parse: Parse) -> None:
    """Serves one call of ``Multiplex``, and all calls on it.

    It lasts until the caller has ended its side and those calls have ended, or until all are cancelled.

    Args:
        handler: Serves each of those.
        context: gRPC's view of the call of ``Multiplex``.
        parse: Makes requests of bytes.

    Raises:
        InvalidRequest: Two calls under way were given one id.
        DiplexError: What arrived is no request.
    """
    outbox = _Outbox()
    writing = asyncio.create_task(_write(outbox, context), name="multiplexed responses")
    try:
        await _Carried(handler, context, outbox).run(parse)
    except asyncio.CancelledError:
        writing.cancel()
        raise
    finally:
        outbox.close()
        # An error's status, too, has to wait for what is on its way: gRPC sends one thing at a time.
        await asyncio.gather(writing, return_exceptions=True)


async def _write(outbox: _Outbox, context: Context) -> None:
    while events := await outbox.take():
        await context.write(worker_pb2.MultiplexResponse(events=events).SerializeToString())


class _Carried:
    """The calls under way."""

    def __init__(self, handler: Handler, context: Context, outbox: _Outbox) -> None:
        self._handler = handler
        self._context = context
        self._outbox = outbox
        self._calls: dict[int, _Call] = {}

    async def run(self, parse: Parse) -> None:
        """Does what the caller asks for, until it has ended its side and all calls have ended."""
        try:
            while isinstance(data := await self._context.read(), bytes):
                self._take(parse(data))
            await self._ended()
        finally:
            for call in self._calls.values():
                call.task.cancel()
            await self._ended()

    def _take(self, message: worker_pb2.MultiplexRequest) -> None:
        """Begins a call, or does to one what its caller wants."""
        call = self._calls.get(message.id)
        if message.WhichOneof("action") == "begin":
            if call is not None:
                raise InvalidRequest.of_field("id", f"call {message.id} is under way")
            self._begin(message.id, message.begin)
        elif call is not None:  # otherwise it has just ended
            call.control(message)

    async def _ended(self) -> None:
        while self._calls:
            await asyncio.wait([call.task for call in self._calls.values()])

    def _begin(self, number: int, begin: worker_pb2.MultiplexedCall) -> None:
        call = self._calls[number] = _Call(number, begin, self._context, self._outbox, self._handler)

        def end(_: object) -> None:
            del self._calls[number]
            self._outbox.add(worker_pb2.MultiplexedEvent(id=number, end=call.end))

        call.task.add_done_callback(end)


class _Outbox:
    """Events of all calls that wait to be sent."""

    def __init__(self) -> None:
        self._events: list[worker_pb2.MultiplexedEvent] = []
        self._filled = asyncio.Event()  # or closed
        self._taken = asyncio.Event()
        self._closed = False

    def add(self, event: worker_pb2.MultiplexedEvent) -> None:
        self._events.append(event)
        self._filled.set()

    async def room(self) -> None:
        """Waits until there is room for another event."""
        while len(self._events) >= _MOST_WAITING:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> list[worker_pb2.MultiplexedEvent]:
        """All that wait, once there are any; none when the outbox has been closed."""
        await self._filled.wait()
        events, self._events = self._events, []
        if not self._closed:
            self._filled.clear()
        self._taken.set()
        return events

    def close(self) -> None:
        """Says that nothing more is added."""
        self._closed = True
        self._filled.set()


class _Call:
    """One of the calls; what its handler takes for gRPC's view of it."""

    def __init__(
        self,
        number: int,
        begin: worker_pb2.MultiplexedCall,
        around: Context,
        outbox: _Outbox,
        handler: Handler,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._number = number
        self._metadata = tuple(begin.metadata.items())
        self._around = around
        self._outbox = outbox
        self._deadline: float | None = None  # on the loop's clock
        self._unpaused = asyncio.Event()
        self._unpaused.set()
        self.end = worker_pb2.MultiplexedEnd(code=grpc.StatusCode.CANCELLED.value[0])
        """How it has ended; before that, what it is if nothing else is said."""
        self.task = asyncio.create_task(self._run(handler, begin.request), name=f"call {number}")
        """Serves it."""
        if begin.HasField("timeout_seconds"):
            self._deadline = loop.time() + begin.timeout_seconds
            timer = loop.call_at(self._deadline, self.task.cancel)
            self.task.add_done_callback(lambda _: timer.cancel())

    def control(self, message: worker_pb2.MultiplexRequest) -> None:
        """Does what the caller asks for."""
        if message.cancel:
            self.task.cancel()
        elif message.pause:
            self._unpaused.clear()
        elif message.HasField("pause"):
            self._unpaused.set()

    async def _run(self, handler: Handler, request: bytes) -> None:
        try:
            # Whoever serves it sees gRPC's own.
            await handler(request, cast("Context", self))
            self.end = worker_pb2.MultiplexedEnd()
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            if self.time_remaining() == 0:
                self.end.code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
            raise

    # What follows is of grpc.aio.ServicerContext.

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def set_trailing_metadata(self, metadata: object) -> None:
        """Nothing: the caller knows its request's id."""

    def time_remaining(self) -> float | None:
        left = self._deadline
        return None if left is None else max(0.0, left - asyncio.get_running_loop().time())

    def peer(self) -> str:
        return self._around.peer()

    def auth_context(self) -> Mapping[str, Any]:
        return self._around.auth_context()

    async def write(self, response: worker_pb2.GenerateResponse) -> None:
        await self._unpaused.wait()
        await self._outbox.room()
        self._outbox.add(worker_pb2.MultiplexedEvent(id=self._number, response=response))

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Iterable[tuple[str, str | bytes]]
    ) -> NoReturn:
        known = dict(trailing_metadata).get(DETAILS_KEY, b"")
        self.end = worker_pb2.MultiplexedEnd(
            code=code.value[0], message=details, details=cast("bytes", known)
        )
        raise grpc.aio.AbortError
