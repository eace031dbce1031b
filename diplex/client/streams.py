"""The streams that the clients return: iterators over what a gateway generates."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self

import grpc

from diplex.client.failures import Failures
from diplex.client.replies import Accepted, Delta, Generation, Receipt
from diplex.client.transcript import Transcript
from diplex.v1 import generation_pb2 as pb


class _Call(Iterable[pb.GenerateStreamResponse], Protocol):
    """What the synchronous stream needs of gRPC's call."""

    def cancel(self) -> object: ...


class Stream:
    """The deltas of one generation, as they come: iterate over it.

    Leaving the ``with``, :meth:`close` and garbage collection cancel a generation that still runs.
    """

    def __init__(self, call: _Call, failures: Failures) -> None:
        self._call = call
        self._failures = failures
        self._transcript = Transcript()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Delta:
        """The next delta.

        Raises:
            DiplexError: What ended the generation; :class:`~diplex.errors.Cancelled` after :meth:`cancel`.
        """
        take = self._transcript.take
        try:
            for event in self._call:
                if (delta := take(event)) is not None:
                    return delta
        except grpc.RpcError as error:
            raise self._failures.of(error, begun=self._transcript.begun) from error
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
        self._call.cancel()

    close = cancel

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        with suppress(AttributeError):  # construction failed
            self._call.cancel()


class AsyncStream:
    """The deltas of one generation, as they come: iterate over it.

    Leaving the ``async with``, :meth:`aclose` and garbage collection cancel a generation that still runs.
    """

    def __init__(
        self, call: grpc.aio.UnaryStreamCall[bytes, pb.GenerateStreamResponse], failures: Failures
    ) -> None:
        self._call = call
        self._events = aiter(call)
        self._failures = failures
        self._transcript = Transcript()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        """The next delta.

        Raises:
            DiplexError: What ended the generation; :class:`~diplex.errors.Cancelled` after :meth:`cancel`.
        """
        take = self._transcript.take
        try:
            async for event in self._events:
                if (delta := take(event)) is not None:
                    return delta
        except grpc.RpcError as error:
            raise self._failures.of(error, begun=self._transcript.begun) from error
        except asyncio.CancelledError:
            # gRPC raises it for a cancelled call too; only a cancelled task may see it.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._failures.cancelled() from None
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
        self._call.cancel()

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
            self._call.cancel()
