"""The HTTP server: uvicorn in the gateway's own event loop, without its own signals and logs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from diplex.certificates import ServerTls
from gateway.http.certificates import HttpCertificates
from gateway.http.connection import Connection

_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than balancers keep idle connections, so that they don't send a request into a closing one."""
_LOG: Final = structlog.get_logger()


class HttpServer:
    """Serves an ASGI application between :meth:`start` and :meth:`stop`.

    Args:
        listen: ``host:port`` (port 0: any free one) or ``unix:/path``.
        app: What is served.
        tls: ``None``: none.
        on_stop: Called when it begins to stop: ends the requests that would go on for long.
        reuse_port: Whether others may listen there too.
    """

    def __init__(
        self,
        listen: str,
        app: ASGIApp,
        tls: ServerTls | None = None,
        *,
        reuse_port: bool = False,
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._listen = listen
        self._reuse_port = reuse_port
        self._on_stop = on_stop
        self._app = app
        self._tls = tls
        self._server: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Binds and begins to answer; returns the URL, or the ``unix:`` address.

        Raises:
            OSError: The address can't be bound, or the certificates can't be used.
        """
        context = HttpCertificates(self._tls).context if self._tls else None
        listener = _bound(self._listen, reuse_port=self._reuse_port)
        config = uvicorn.Config(
            self._app,
            http=Connection,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            ssl_context_factory=(lambda _, __: context) if context else None,
        )
        self._server = _Uvicorn(config)
        self._serving = asyncio.create_task(self._server.serve([listener]), name="http")
        await self._server.begun.wait()
        address = _url(self._listen, listener, "https" if context else "http")
        _LOG.info("listening", address=address, tls=context is not None)
        return address

    async def stop(self, grace: float | None) -> None:
        """Takes no more connections, waits for what is under way, and ends.

        May be called again with less patience.

        Args:
            grace: Seconds that requests under way have; ``None`` for none. They are cancelled then.
        """
        if self._server is None or self._serving is None:
            return
        self._server.end()
        self._on_stop()
        if grace is not None:
            await asyncio.wait([self._serving], timeout=grace)
        self._server.cancel()
        await asyncio.wait([self._serving])
        _unlink(self._listen)


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = asyncio.Event()
        self._ending = asyncio.Event()

    async def main_loop(self) -> None:
        """Keeps the date of the answers' headers, until the end."""
        while not self._ending.is_set():
            await self.on_tick(0)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1.0)

    def end(self) -> None:
        """Takes no more connections."""
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the gateway's business."""
        yield

    def cancel(self) -> None:
        """Ends what is still under way."""
        for task in self.server_state.tasks:
            task.cancel()
        asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._abort)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


_LAST_WORDS_SECONDS: Final = 0.5
"""What cancelled requests have to tell their clients, who may not read."""


def _bound(listen: str, *, reuse_port: bool) -> socket.socket:
    try:
        if listen.startswith("unix:"):
            return _bound_path(listen.removeprefix("unix:"))
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        if family is socket.AF_INET:
            host = host or "0.0.0.0"  # noqa: S104  # what an empty host means; checked before
        return socket.create_server((host, int(port)), family=family, backlog=2048, reuse_port=reuse_port)
    except (OSError, ValueError, OverflowError) as error:
        raise OSError(f"can't listen on {listen} for HTTP ({error}): is the address in use?") from error


def _bound_path(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    if Path(path).is_socket() and listener.connect_ex(path) != 0:
        with suppress(FileNotFoundError):
            Path(path).unlink()  # left behind by a process that is gone
    listener.close()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    return listener


def _unlink(listen: str) -> None:
    if listen.startswith("unix:"):
        Path(listen.removeprefix("unix:")).unlink(missing_ok=True)


def _url(listen: str, listener: socket.socket, scheme: str) -> str:
    if listen.startswith("unix:"):
        return listen
    return f"{scheme}://{listen.rpartition(':')[0]}:{listener.getsockname()[1]}"
