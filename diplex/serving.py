"""The asynchronous gRPC server that every process runs: services, health, reflection, signals, drain."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from diplex.admin import admin_server, health_server
from diplex.certificates import ServerCertificates, ServerTls
from diplex.rpc import Guard, handlers_of
from diplex.running import Running

MEBIBYTE: Final = 1024 * 1024

LIVENESS: Final = "liveness"
"""Name whose health is ``SERVING`` for as long as the process answers, whatever its models do."""

_STATES: Final = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}

_LAST_WORDS_SECONDS: Final = 0.5
"""What the last calls have to send their status, once their methods have returned."""
_ENDING_SECONDS: Final = 5.0
"""What calls that are ended have to clean up and return; they need milliseconds, on a machine with time."""

_AGAIN_SECONDS: Final = 0.2
"""Pause before an address that isn't free is tried again."""

_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """Connections of callers: signs of life, and how old they may get. No stream is ever cut off by these."""

    keepalive_seconds: float = 60.0
    """Silence on a connection after which the caller is asked for a sign of life: one that has vanished must
    not hold a slot."""
    keepalive_timeout_seconds: float = 20.0
    """How long the sign may take before the connection counts as lost, and its calls as cancelled."""
    max_age_seconds: float = 0.0
    """Age at which a connection is told to take no new calls (GOAWAY, with jitter), so that callers come back
    through a load balancer; those under way go on to their ends. 0: never."""

    def __post_init__(self) -> None:
        if self.keepalive_seconds < 1 or self.keepalive_timeout_seconds < 1:
            raise ValueError("keepalive_seconds and keepalive_timeout_seconds are 1 at least")
        if self.max_age_seconds < 0:
            raise ValueError("max_age_seconds is 0 at least")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one gRPC server listens, limits and ends."""

    listen: str = "127.0.0.1:50051"
    """``host:port`` (port 0: any free one) or ``unix:/path``."""
    max_message_bytes: int = 32 * MEBIBYTE
    """Largest request that policy allows; a larger one is refused with ``MESSAGE_TOO_LARGE``."""
    max_metadata_bytes: int = 16 * 1024
    """Most metadata of a call; gRPC itself refuses more."""
    max_streams: int = 1024
    """Calls under way on one connection; a client keeps further ones waiting until one has ended."""
    reuse_port: bool = False
    """Whether others may listen on the same address; otherwise two on one by accident are an error."""
    connections: ConnectionConfig = field(default_factory=ConnectionConfig)
    """Signs of life, and age."""
    admin_listen: str = ""
    """Where operators find channelz, health and reflection; empty for nowhere."""
    health_listen: str = ""
    """Where probes find health alone, never with TLS; empty for nowhere."""
    tls: ServerTls | None = None
    """``None``: bytes go as they are."""
    drain_seconds: float = 30.0
    """How long running calls may go on after SIGTERM."""

    @property
    def transport_limit_bytes(self) -> int:
        """Where gRPC itself refuses, before our handlers see the call: twice the policy limit."""
        return 2 * self.max_message_bytes


class Server:
    """Serves a set of services until a signal comes, then drains.

    Health is ``NOT_SERVING`` for every service, and for the server as a whole, until :meth:`set_serving`;
    that of :data:`LIVENESS` is ``SERVING`` from the start until it drains.

    Args:
        config: How it serves.
        services: What it serves.
        guard: Who may call these services; health and reflection are for everybody.
    """

    def __init__(
        self,
        config: ServerConfig,
        services: Mapping[ServiceDescriptor, object],
        guard: Guard | None = None,
    ) -> None:
        self._config = config
        self._names = [service.full_name for service in services]
        self._health = health.aio.HealthServicer()
        self._running = Running()
        self._models: dict[str, bool] = {}  # name -> whether its health is SERVING
        self._until_end = AsyncExitStack()
        self._handlers = [
            handlers_of(
                service,
                implementation,
                max_message_bytes=config.max_message_bytes,
                running=self._running,
                guard=guard,
            )
            for service, implementation in services.items()
        ]
        self._server = self._assembled()
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Binds and begins to answer; returns the address with the real port.

        Raises:
            OSError: The address can't be bound, or the certificates can't be used.
        """
        await self._health.set(LIVENESS, _STATES[True])
        await self.set_serving(serving=False)
        address = await self._open(self._config.listen)
        await self._until_end.enter_async_context(admin_server(self._config.admin_listen, self._health))
        await self._until_end.enter_async_context(health_server(self._config.health_listen, self._health))
        self._renewing = asyncio.create_task(self._renew(address), name="renew the server")
        _LOG.info("listening", address=address, tls=self._config.tls is not None)
        return address

    async def set_serving(self, *, serving: bool) -> None:
        """Sets the health of every service and of the server as a whole (the empty name)."""
        for name in ("", *self._names):
            await self._health.set(name, _STATES[serving])

    async def set_models(self, models: Mapping[str, bool]) -> None:
        """Sets the health of models, under the names ``model/NAME``; those that have gone are not served.

        Args:
            models: Name -> whether it is loaded and can answer.
        """
        told = dict.fromkeys(self._models, False) | dict(models)
        for name, serving in told.items():
            if self._models.get(name) is not serving:
                await self._health.set(f"model/{name}", _STATES[serving])
        self._models = told

    @property
    def running(self) -> Running:
        """Counts the calls under way; what is served beside this server may count there too."""
        return self._running

    async def run_until_signal(
        self,
        on_drain: Callable[[], Awaitable[None]],
        beside: Callable[[float | None], Awaitable[None]] | None = None,
    ) -> None:
        """Waits for SIGTERM or SIGINT, then: health off, ``on_drain``, GOAWAY, calls to their ends.

        What still runs when its time is over, or at a second signal, fails with ``Draining``. Watches, ours
        and those of health, are not waited for.

        Args:
            on_drain: Called first.
            beside: Stops what is served beside, whose calls have so many seconds, or none; called again when
                there is less patience.
        """
        # What the start has left lives as long as the process. To look through all of it again and again for
        # garbage would hold up every call by some ten milliseconds.
        gc.freeze()
        signals = _signals()
        await signals.get()
        _LOG.info("draining", seconds=self._config.drain_seconds)
        await self._health.enter_graceful_shutdown()
        await on_drain()
        grace = self._config.drain_seconds
        stopped = asyncio.create_task(self._stop_all(grace + _ENDING_SECONDS, beside))
        ended = asyncio.create_task(self._running.ended())
        again = asyncio.create_task(signals.get())
        await asyncio.wait((stopped, ended, again), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            _LOG.warning("running calls are ended")
            self._running.end()
            await asyncio.wait((ended,), timeout=_ENDING_SECONDS)
        await self._stop_all(_LAST_WORDS_SECONDS, beside)
        ended.cancel()
        again.cancel()
        await stopped
        await self._until_end.aclose()
        _LOG.info("stopped")

    async def _stop_all(
        self, grace: float | None, beside: Callable[[float | None], Awaitable[None]] | None
    ) -> None:
        stopping: list[Awaitable[None]] = [self._server.stop(grace)]
        if beside:
            stopping.append(beside(grace))
        await asyncio.gather(*stopping)

    async def stop(self) -> None:
        """Stops at once; running calls are cancelled."""
        await self._server.stop(None)
        await self._until_end.aclose()

    def _assembled(self) -> grpc.aio.Server:
        server = grpc.aio.server(handlers=self._handlers, options=_channel_arguments(self._config))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(
            [*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
        return server

    async def _open(self, listen: str) -> str:
        tls = self._config.tls
        credentials = ServerCertificates(tls).credentials() if tls else None
        try:
            port = (
                self._server.add_secure_port(listen, credentials)
                if credentials
                else self._server.add_insecure_port(listen)
            )
        except RuntimeError as error:
            raise OSError(f"can't listen on {listen}: is the address in use?") from error
        await self._server.start()
        return _with_port(listen, port)

    async def _renew(self, address: str) -> None:
        """Opens a new server at the same address when gRPC's own has crashed; until the server is stopped.

        grpc.aio ends all service for good at a call whose path is no UTF-8 (seen with grpcio 1.85); nothing
        that we have a hand in comes before it. What runs is lost, as if the process had been restarted.
        """
        while True:
            try:
                await self._server.wait_for_termination()
            except Exception as error:  # noqa: BLE001  # whatever has ended it
                _LOG.error("server crashed, opening another", address=address, error=str(error))
            else:
                return
            await self._open_again(address)

    async def _open_again(self, address: str) -> None:
        while True:
            self._server = self._assembled()
            try:
                await self._open(address)
            except OSError as error:
                _LOG.error("not opened again", address=address, error=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return


def _signals() -> asyncio.Queue[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, queue.put_nowait, number)
    return queue


def _with_port(listen: str, port: int) -> str:
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


def _channel_arguments(config: ServerConfig) -> list[tuple[str, int]]:
    connections = config.connections
    age = [("grpc.max_connection_age_ms", int(connections.max_age_seconds * 1000))]
    return [
        *(age if connections.max_age_seconds else ()),
        ("grpc.keepalive_time_ms", int(connections.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(connections.keepalive_timeout_seconds * 1000)),
        ("grpc.max_receive_message_length", config.transport_limit_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", config.max_metadata_bytes),
        ("grpc.max_concurrent_streams", config.max_streams),
        ("grpc.so_reuseport", int(config.reuse_port)),
        # Who waits for a slow model may ask for a sign of life, as gateways do of workers.
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
