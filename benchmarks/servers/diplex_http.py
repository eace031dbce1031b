"""Diplex as OpenAI's clients reach it: the gateway, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence

from benchmarks.servers.diplex import Diplex
from benchmarks.servers.server import StreamFailed

_HEAD = (
    "POST /v1/completions HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    "Connection: close\r\nContent-Length: {}\r\n\r\n"
)


class DiplexHttp(Diplex):
    """The same processes as of :class:`Diplex`, asked for streams of completions.

    The client is as cheap as it can be: it looks for lines and parses their JSON. It asks for token ids,
    since nothing else says how many tokens a chunk stands for; over gRPC a number does.
    """

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`~benchmarks.servers.server.Server`."""
        body = json.dumps(
            {
                "prompt": list(prompt),
                "max_tokens": tokens,
                "min_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "return_token_ids": True,
            }
        ).encode()
        reader, writer = await asyncio.open_unix_connection(self.http_socket)
        try:
            writer.write(_HEAD.format(len(body)).encode() + body)
            status = await reader.readline()
            if b" 200 " not in status:
                raise StreamFailed(f"{status!r} {await reader.read(2000)!r}")
            while line := await reader.readline():
                if not line.startswith(b"data: "):
                    continue  # header lines, the framing of chunks, empty lines
                if line.startswith(b"data: [DONE]"):
                    return
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    raise StreamFailed(line.decode())
                for choice in chunk["choices"]:
                    if ids := choice.get("token_ids"):
                        yield len(ids)
            raise StreamFailed("the connection was closed")
        finally:
            writer.close()
