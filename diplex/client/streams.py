"""The streams that the clients return: iterators over what a gateway generates."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

import grpc

from diplex import errors
from diplex.client.course import Course
from diplex.client.failures import Failures
from diplex.client.replies import Accepted, Delta, Generation, Receipt
from diplex.client.retrying import Retrying
from diplex.client.transcript import Transcript
from diplex.v1 import generation_pb2 as pb


class _Call(Protocol):
    """What there is in either of gRPC's calls."""

    def cancel(self) -> object:
        """Ends it."""


class StreamCall(_Call, Iterable[pb.GenerateStreamResponse], Protocol):
    """What the synchronous stream needs of gRPC's call."""


AsyncStreamCall = grpc.aio.UnaryStreamCall[bytes, pb.GenerateStreamResponse]
_AnyCall = TypeVar("_AnyCall", bound=_Call)


class Attempts(Generic[_AnyCall]):
    """The calls of one stream, one after the other.

    Args:
        begin: Makes a call: the request's bytes, a timeout in seconds, and an id for the request.
        course: How far the stream has come.
        retrying: How long it is tried again.
        failures: Translates what went wrong.
        request_id: Names the request in logs; empty for the gateway to choose.
    """

    def __init__(
        self,
        begin: Callable[[bytes, float | None, str], _AnyCall],
        course: Course,
        retrying: Retrying,
        failures: Failures,
        request_id: str,
    ) -> None:
        self._begin = begin
        self._course = course
        self._retrying = retrying
        self._failures = failures
        self._request_id = request_id
        self._reached = course.after  # when the last attempt began
        self._lost: errors.DiplexError | None = None  # what ended the attempt before
        self.transcript = Transcript()
        self.cancelled = False
        self.call = begin(course.data, retrying.timeout, request_id)

    def take(self, event: pb.GenerateStreamResponse) -> Delta | None:
        """Keeps an event; returns the delta if it is one."""
        self._course.take(event)
        return self.transcript.take(event)

    def pause(self, error: grpc.RpcError) -> float:
        """Seconds until the next attempt.

        Raises:
            DiplexError: There is to be none.
        """
        known = self._failures.of(error, begun=self.transcript.begun)
        if self.cancelled:
            raise known from error
        if self._lost is not None and _not_taken_up(known):
            raise self._lost from error
        if not self._course.can_go_on and self.transcript.begun:
            raise known from error
        if self._course.after > self._reached:
            self._retrying.progressed()
        self._lost = known
        return self._retrying.pause(error, known)

    def go_on(self) -> None:
        """Makes the next attempt."""
        self._reached = self._course.after
        if self.transcript.begun:
            self._request_id = self.transcript.accepted.request_id
        self.call = self._begin(self._course.data, self._retrying.timeout, self._request_id)
        if self.cancelled:  # meanwhile, by another thread
            self.call.cancel()

    def cancel(self) -> None:
        """Ends the call, and there are no more."""
        self.cancelled = True
        self.call.cancel()


def _not_taken_up(known: errors.DiplexError) -> bool:
    """Whether a gateway doesn't know what to make of the tokens: what was lost before is what matters."""
    at_fault = any(violation.field.startswith("resume") for violation in known.violations)
    return at_fault or isinstance(known, errors.ResumptionLost)


class Stream:
    """The deltas of one generation, as they come: iterate over it.

    Leaving the ``with``, :meth:`close` and garbage collection cancel a generation that still runs. A stream
    whose connection breaks is gone on with, without a gap or a repeat.
    """

    def __init__(self, attempts: Attempts[StreamCall]) -> None:
        self._attempts = attempts
        self._transcript = attempts.transcript
        self._stopped = threading.Event()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Delta:
        """The next delta.

        Raises:
            DiplexError: What ended the generation; :class:`~diplex.errors.Cancelled` after :meth:`cancel`.
        """
        take = self._attempts.take
        while True:
            try:
                for event in self._attempts.call:
                    if (delta := take(event)) is not None:
                        return delta
            except grpc.RpcError as error:
                if not self._transcript.complete:
                    self._stopped.wait(self._attempts.pause(error))
                    self._attempts.go_on()
                    continue
            self._transcript.end()
            raise StopIteration

    @property
    def accepted(self) -> Accepted:
        """What serves the request. ``RuntimeError`` before the first delta."""
        return self._transcript.accepted

    @property
    def text(self) -> str:
        """Text of the first choice so far."""
        return self._transcript.text

    @property
    def receipt(self) -> Receipt:
        """What the request cost. ``RuntimeError`` before the stream's end."""
        return self._transcript.receipt

    def collect(self) -> Generation:
        """Reads the rest and returns everything, as :meth:`Client.generate` would have.

        Raises:
            DiplexError: What ended the generation.
        """
        for _ in self:
            pass
        return self._transcript.generation()

    def cancel(self) -> None:
        """Ends the generation; may be called from another thread. Reading on raises ``Cancelled``."""
        self._stopped.set()
        self._attempts.cancel()

    close = cancel

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        with suppress(AttributeError):  # construction failed
            self._attempts.cancel()


class AsyncStream:
    """The deltas of one generation, as they come: iterate over it.

    Leaving the ``async with``, :meth:`aclose` and garbage collection cancel a generation that still runs. A
    stream whose connection breaks is gone on with, without a gap or a repeat.
    """

    def __init__(self, attempts: Attempts[AsyncStreamCall]) -> None:
        self._attempts = attempts
        self._events = aiter(attempts.call)
        self._transcript = attempts.transcript

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        """The next delta.

        Raises:
            DiplexError: What ended the generation; :class:`~diplex.errors.Cancelled` after :meth:`cancel`.
        """
        take = self._attempts.take
        while True:
            try:
                async for event in self._events:
                    if (delta := take(event)) is not None:
                        return delta
            except grpc.RpcError as error:
                if not self._transcript.complete:
                    await asyncio.sleep(self._attempts.pause(error))
                    self._attempts.go_on()
                    self._events = aiter(self._attempts.call)
                    continue
            except asyncio.CancelledError:
                # gRPC raises it for a cancelled call too; only a cancelled task may see it.
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise errors.Cancelled("the request was cancelled") from None
            self._transcript.end()
            raise StopAsyncIteration

    @property
    def accepted(self) -> Accepted:
        """What serves the request. ``RuntimeError`` before the first delta."""
        return self._transcript.accepted

    @property
    def text(self) -> str:
        """Text of the first choice so far."""
        return self._transcript.text

    @property
    def receipt(self) -> Receipt:
        """What the request cost. ``RuntimeError`` before the stream's end."""
        return self._transcript.receipt

    async def collect(self) -> Generation:
        """Reads the rest and returns everything, as :meth:`AsyncClient.generate` would have.

        Raises:
            DiplexError: What ended the generation.
        """
        async for _ in self:
            pass
        return self._transcript.generation()

    def cancel(self) -> None:
        """Ends the generation. Reading on raises ``Cancelled``."""
        self._attempts.cancel()

    async def aclose(self) -> None:
        """The same as :meth:`cancel`, for ``contextlib.aclosing``."""
        self.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        with suppress(AttributeError, RuntimeError):  # construction failed; the event loop has been closed
            self._attempts.cancel()
