"""How an answer is sent: whole, or as server-sent events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.types import Send

from diplex.errors import DiplexError
from diplex.telemetry import REQUEST_ID_KEY
from gateway.http import problem

JSON: Final = b"application/json"
EVENTS: Final = b"text/event-stream; charset=utf-8"

Headers = Sequence[tuple[bytes, bytes]]


class Reply:
    """The answer to one request, which can be begun once.

    Args:
        send: Sends to the client; waits while the client doesn't read.
        request_id: Told in a header.
    """

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self.request_id = request_id
        """Of the request."""
        self.code = 0
        """HTTP status that was sent; 0 as long as nothing was."""

    async def whole(
        self, body: bytes, *, code: int = 200, media_type: bytes = JSON, headers: Headers = ()
    ) -> None:
        """Sends everything at once."""
        await self._start(code, media_type, (*headers, (b"content-length", str(len(body)).encode())))
        await self._send({"type": "http.response.body", "body": body})

    async def begin_events(self) -> None:
        """Begins a stream of events; from here on, an error is an event."""
        # The last header keeps proxies like nginx from collecting events.
        await self._start(200, EVENTS, ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")))

    async def events(self, data: bytes) -> None:
        """Sends some events, each ``data: …`` and an empty line."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end_events(self, data: bytes = b"") -> None:
        """Sends the last events."""
        await self._send({"type": "http.response.body", "body": data})

    async def fail(self, error: DiplexError) -> None:
        """Tells of an error, with its status or, in a stream that has begun, as its last event."""
        body = problem.body(error)
        if self.code:
            await self.end_events(b'data: {"type":"error",' + body[1:] + b"\n\n")
        else:
            await self.whole(body, code=problem.http_status(error), headers=problem.headers(error))

    async def _start(self, code: int, media_type: bytes, headers: Headers) -> None:
        self.code = code
        named = (
            (b"content-type", media_type),
            (REQUEST_ID_KEY.encode(), self.request_id.encode("latin-1", "replace")),
        )
        await self._send({"type": "http.response.start", "status": code, "headers": [*named, *headers]})
