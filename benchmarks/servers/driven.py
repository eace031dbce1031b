"""The other end of :mod:`benchmarks.servers.driver_loop`: an in-process library as a server under test."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from benchmarks.servers.child import Child
from benchmarks.servers.process_tree import ProcessTree
from benchmarks.servers.server import Sizing, StreamFailed

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 120
_LINE_BYTES = 1 << 20


class Driven:
    """A driver process and the connection to it.

    Args:
        name: How tables call it.
        python: The interpreter of the library's environment.
        module: The driver.
        config: What the driver gets, beside ``clients`` and ``max_length``.
    """

    def __init__(self, name: str, python: Path, module: str, config: Mapping[str, object]) -> None:
        self.name = name
        self.tree = ProcessTree()
        self._python = python
        self._module = module
        self._config = config
        self._child: Child | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._queues: dict[int, asyncio.Queue[int]] = {}  # request id -> tokens of each step; 0 at the end

    async def start(self, sizing: Sizing) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        ours, theirs = socket.socketpair()
        config = {**self._config, "clients": sizing.clients, "max_length": sizing.max_length}
        arguments = ["-m", self._module, str(theirs.fileno()), json.dumps(config)]
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        with theirs:
            self._child = Child([str(self._python), *arguments], environment, pass_fds=[theirs.fileno()])
        self.tree = ProcessTree([self._child.pid])
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
        async with asyncio.timeout(_START_SECONDS):
            if not await reader.readline():
                raise RuntimeError(f"{self.name} ended: {self._child.log()}")
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                for request_id, tokens in json.loads(line):
                    if queue := self._queues.get(request_id):
                        queue.put_nowait(tokens)
        finally:
            for queue in self._queues.values():
                queue.put_nowait(0)

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`~benchmarks.servers.server.Server`."""
        request_id = next(self._ids)
        queue = self._queues[request_id] = asyncio.Queue()
        self._send({"id": request_id, "prompt": list(prompt), "tokens": tokens})
        left = tokens
        try:
            while left > 0:
                got = await queue.get()
                if got == 0:
                    raise StreamFailed(f"{self.name} ended: {self._child.log() if self._child else ''}")
                left -= got
                yield got
        finally:
            del self._queues[request_id]
            if left > 0:
                self._send({"cancel": request_id})

    def _send(self, message: object) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def stop(self) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        if self._writer is not None:
            self._writer.close()
        if self._child is not None:
            await self._child.stop()
        if self._reading is not None:
            await self._reading
        self._child = self._writer = self._reading = None
