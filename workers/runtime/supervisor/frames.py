"""Framed messages over the socket to an engine process, in asyncio and without a task of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Self

from workers.runtime.engine.messages import HEADER_BYTES, FromEngine, ToEngine, body_length, unpack

_FIRST_BYTES: Final = 64 * 1024
"""Size of the buffer to begin with; it grows to the largest frame."""


class Frames(asyncio.BufferedProtocol):
    """The supervisor's end: calls back with every message, in the moment in which its last byte has come.

    Made by :meth:`over`. The engine speaks only when it has been spoken to, behind :meth:`deliver_to`.
    """

    def __init__(self) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once the connection has ended; with the error if it was one of a callback."""
        self.closed_by_us = False
        """Whether :meth:`close` was called."""
        self._transport: asyncio.Transport
        self._deliver: Callable[[FromEngine], None]
        self._buffer = bytearray(_FIRST_BYTES)
        self._filled = 0  # bytes of the buffer that have come and were not delivered

    @classmethod
    async def over(cls, peer: socket.socket) -> Self:
        """Takes over a connected socket."""
        _, protocol = await asyncio.get_running_loop().create_connection(cls, sock=peer)
        return protocol

    def deliver_to(self, deliver: Callable[[FromEngine], None]) -> None:
        """Calls ``deliver`` with each message from now on; an error that it raises ends the connection."""
        self._deliver = deliver

    def write(self, frame: bytes) -> None:
        """Sends a frame; nothing once the connection has ended."""
        if not self._transport.is_closing():
            self._transport.write(frame)

    def close(self) -> None:
        """Ends the connection, behind what was written."""
        self.closed_by_us = self.closed_by_us or not self.closed.done()
        self._transport.close()

    # ------------------------------------------------------------------------------------- protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # a socket's is one
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # always 64 KiB or so
        """Where the next bytes go."""
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Delivers the frames that are complete."""
        self._filled += nbytes
        try:
            self._take_frames()
        except Exception as error:  # noqa: BLE001  # whatever it is, who waits for the end must hear of it
            self.closed.set_exception(error)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # however it ended, it has
        """Says so."""
        if not self.closed.done():
            self.closed.set_result(None)

    def _take_frames(self) -> None:
        begin = 0
        while (body := begin + HEADER_BYTES) <= self._filled:
            end = body + body_length(bytes(self._buffer[begin:body]))
            if end > self._filled:
                self._make_room(end - begin)
                break
            message = unpack(memoryview(self._buffer)[body:end])
            assert not isinstance(message, ToEngine)  # noqa: S101  # an engine never says these
            self._deliver(message)
            begin = end
        rest = self._filled - begin
        self._buffer[:rest] = self._buffer[begin : self._filled]
        self._filled = rest

    def _make_room(self, frame_bytes: int) -> None:
        if frame_bytes > len(self._buffer):
            # A new one, since the loop still holds a view of the old.
            self._buffer = self._buffer + bytes(frame_bytes - len(self._buffer))
