"""llama.cpp's HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from benchmarks.servers.child import Child
from benchmarks.servers.process_tree import ProcessTree
from benchmarks.servers.server import Sizing, StreamFailed

_START_SECONDS = 60
_POLL_SECONDS = 0.02
_HEAD = (
    "POST /completion HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


class LlamaServer:
    """``llama-server`` on a unix socket, with a slot a client, each as long as the cell needs.

    Args:
        binary: The program.
        gguf: The weights.
        threads: Threads that compute.
    """

    name = "llama-server"

    def __init__(self, binary: Path, gguf: Path, threads: int) -> None:
        self.tree = ProcessTree()
        self._binary = binary
        self._gguf = gguf
        self._threads = threads
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._child: Child | None = None
        self._socket = ""

    async def start(self, sizing: Sizing) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        self._folder = tempfile.TemporaryDirectory(prefix="llama-server-")
        self._socket = f"{self._folder.name}/http.sock"
        slots = {"-np": sizing.clients, "-c": sizing.clients * sizing.max_length}
        options = {"-m": self._gguf, "--host": self._socket, "-t": self._threads, **slots}
        words = [str(word) for pair in options.items() for word in pair]
        self._child = Child([str(self._binary), *words, "--offline", "--no-ui"], os.environ)
        self.tree = ProcessTree([self._child.pid])
        async with asyncio.timeout(_START_SECONDS):
            while not await self._healthy():
                if self._child.ended:
                    raise RuntimeError(f"llama-server ended: {self._child.log()}")
                await asyncio.sleep(_POLL_SECONDS)

    async def _healthy(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"GET /health HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            return b" 200 " in await reader.readline()
        finally:
            writer.close()

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`~benchmarks.servers.server.Server`."""
        body = json.dumps(
            {
                "prompt": list(prompt),
                "n_predict": tokens,
                "ignore_eos": True,
                "temperature": 0,
                "samplers": ["temperature"],
                "stream": True,
                "cache_prompt": True,
                "return_tokens": True,
            }
        ).encode()
        reader, writer = await asyncio.open_unix_connection(self._socket)
        try:
            writer.write(_HEAD.format(len(body)).encode() + body)
            status = await reader.readline()
            if b" 200 " not in status:
                raise StreamFailed(f"{status!r} {await reader.read(2000)!r}")
            while line := await reader.readline():
                if not line.startswith(b"data: "):
                    if line.startswith(b"error: "):
                        raise StreamFailed(line.decode())
                    continue  # header lines, the framing of chunks, empty lines
                event = json.loads(line[6:])
                if event["tokens"]:
                    yield len(event["tokens"])
                if event["stop"]:
                    return
            raise StreamFailed("the connection was closed")
        finally:
            writer.close()

    async def stop(self) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        if self._child is not None:
            await self._child.stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._child = self._folder = None
