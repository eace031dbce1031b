"""Networks that lose every packet and say nothing: a proxy that stands still, or a link that is down."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK = 65536


class StillProxy:
    """Forwards connections to a unix socket; while it is cut, it neither reads, writes nor closes any.

    Args:
        target: Path of the socket.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.address = ""

    def cut(self) -> None:
        self._open.clear()

    def heal(self) -> None:
        self._open.set()

    def __enter__(self) -> Self:
        self._thread.start()
        starting = asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.set()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.sleep(0)  # lets the transports close

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await self._until_open()
        try:
            there, back = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        self._writers.append(back)
        await asyncio.gather(self._forward(reader, back), self._forward(there, writer))

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._until_open()
                writer.write(data)
                await writer.drain()
        await self._until_open()
        writer.close()

    async def _until_open(self) -> None:
        while not self._open.is_set():  # noqa: ASYNC110  # set by another thread
            await asyncio.sleep(0.02)


class Island:
    """A network namespace with one link to this one.

    Cut, the link is down on the island's side alone: packets go out here and nobody gets them. Needs root.

    Args:
        number: Tells islands of one test apart; 0 to 60.
    """

    def __init__(self, number: int) -> None:
        self.name = f"dx{os.getpid()}-{number}"
        self._outside, self._inside = f"dxo{number}", f"dxi{number}"
        self._subnet = f"10.213.{77 + number}"
        self.address = f"{self._subnet}.2:50061"
        self._exit = ExitStack()

    @staticmethod
    def missing() -> str:
        """Why there can be none here; empty if there can."""
        if os.geteuid() != 0:
            return "network namespaces need root"
        if shutil.which("ip") is None:
            return "there is no `ip` command"
        try:
            _ip("netns", "add", f"dx{os.getpid()}")
            _ip("netns", "del", f"dx{os.getpid()}")
        except subprocess.CalledProcessError as error:
            return f"no network namespace can be made: {error.stderr.decode().strip()}"
        return ""

    @property
    def inside(self) -> tuple[str, ...]:
        """Runs a command on the island."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        _ip("-n", self.name, "link", "set", self._inside, "down")

    def heal(self) -> None:
        _ip("-n", self.name, "link", "set", self._inside, "up")

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        self._exit.callback(_ip, "netns", "del", self.name)
        _ip("link", "add", self._outside, "type", "veth", "peer", "name", self._inside, "netns", self.name)
        self._exit.callback(_ip, "link", "del", self._outside)
        _ip("addr", "add", f"{self._subnet}.1/30", "dev", self._outside)
        _ip("link", "set", self._outside, "up")
        _ip("-n", self.name, "addr", "add", f"{self._subnet}.2/30", "dev", self._inside)
        _ip("-n", self.name, "link", "set", self._inside, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()


def _ip(*arguments: str) -> None:
    ip = shutil.which("ip") or "ip"
    subprocess.run([ip, *arguments], check=True, capture_output=True, timeout=10)
