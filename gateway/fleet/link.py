"""One worker as the gateway holds it: the connection, and a watch on the worker's state."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import grpc
import structlog

from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway.config import GatewayConfig
from gateway.conversion import worker_of
from gateway.fleet.endpoint import Endpoint
from gateway.fleet.facts import Worker
from gateway.fleet.flight import WorkerCall
from gateway.fleet.multiplexer import Multiplexer
from gateway.security.channel import WorkerChannels

_PATIENCE_SECONDS: Final = 2.0
"""After which a worker that isn't heard is called anew, with TLS."""
_LAST_CALLS_SECONDS: Final = 600.0
"""What calls have to end that run on a channel with old certificates."""
_MOST_MULTIPLEXED_BYTES: Final = 64 * 1024
"""Of a request. Larger ones, as those with pictures, would hold up what is behind them, and one that is too
large for the worker would break what carries all."""

_LOG: Final = structlog.get_logger()


class Link:
    """Keeps one worker connected and watched until it is closed.

    gRPC reconnects by itself; the watch is what tells whether the worker is there.

    Args:
        endpoint: Where it is.
        config: For the pauses between two tries.
        gateway: What the gateway calls itself.
        changed: Called after each change of :attr:`worker`.
    """

    def __init__(
        self, endpoint: Endpoint, config: GatewayConfig, gateway: str, changed: Callable[[], None]
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._changed = changed
        self._channels = WorkerChannels(
            endpoint.address, config.security, _channel_arguments(config), endpoint.host
        )
        self._former: set[asyncio.Task[None]] = set()  # channels with old certificates, until their calls end
        self._connect()
        self._watching: asyncio.Task[None] | None = None
        self._calls = 0
        self._idle = asyncio.Event()  # set while there are no calls
        self._idle.set()
        self.state: worker_pb2.WatchResponse | None = None
        """The last message of the watch, also when it has broken since."""
        self.worker: Worker = worker_of(endpoint.address, None, connected=False)
        """The same for the router."""

    def _connect(self) -> None:
        self._channel = self._channels.open()
        self.stub: worker_pb2_grpc.WorkerServiceAsyncStub = worker_pb2_grpc.WorkerServiceStub(self._channel)
        self._multiplexer = Multiplexer(self.stub)

    def _renew(self) -> None:
        """Connects anew with certificates and secret that have changed; calls on the old channel may end."""
        channel, multiplexer = self._channel, self._multiplexer
        try:
            self._connect()
        except (OSError, ValueError) as error:
            _LOG.error("link not renewed", address=self.worker.address, error=str(error))
            return
        _LOG.info("link renewed", address=self.worker.address)
        task = asyncio.create_task(_end(channel, multiplexer))
        self._former.add(task)
        task.add_done_callback(self._former.discard)

    def open(self) -> None:
        """Begins to watch."""
        self._watching = asyncio.create_task(self._watch(), name=f"watch {self.worker.address}")

    def generate(
        self,
        message: worker_pb2.GenerateRequest,
        *,
        timeout: float | None,
        metadata: tuple[tuple[str, str], ...],
    ) -> WorkerCall:
        """Calls the worker's ``Generate``: beside others where it multiplexes, but for large requests."""
        multiplexes = self.state is not None and self.state.multiplexes
        if multiplexes and message.ByteSize() <= _MOST_MULTIPLEXED_BYTES:
            return self._multiplexer.generate(message, timeout=timeout, metadata=metadata)
        return self.stub.Generate(message, timeout=timeout, metadata=metadata)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Counts one call while it is open, for :meth:`retire`."""
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._idle.set()

    async def retire(self) -> None:
        """Ends the watch at once, and closes the connection when the last call on it has ended."""
        await self._stop_watching()
        try:
            await self._idle.wait()
        finally:
            await self._disconnect()

    async def close(self) -> None:
        """Ends the watch and closes the connection; calls that still run on it are cancelled."""
        await self._stop_watching()
        for task in self._former:
            task.cancel()
        await asyncio.gather(*self._former, return_exceptions=True)
        await self._disconnect()

    async def _disconnect(self) -> None:
        await self._channel.close()
        await self._multiplexer.close()

    async def _stop_watching(self) -> None:
        if self._watching:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def _watch(self) -> None:
        pause = self._config.reconnect_first_seconds
        while True:
            try:
                if await self._watch_once():
                    pause = self._config.reconnect_first_seconds
            finally:
                self._take(self.state, connected=False)
            # Without jitter all gateways would knock on a restarted worker's door together.
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311  # no secret depends on it
            pause = min(2 * pause, self._config.reconnect_most_seconds)
            if self._channels.secured and self._channels.outdated:
                self._renew()

    async def _watch_once(self) -> bool:
        """Watches until the stream breaks; whether anything was heard."""
        heard = False
        call = self.stub.Watch(worker_pb2.WatchRequest(gateway=self._gateway), wait_for_ready=True)
        # Files that have changed may be why nothing is heard.
        patience = _PATIENCE_SECONDS if self._channels.secured else None
        try:
            async with asyncio.timeout(patience) as limit:
                async for state in call:
                    limit.reschedule(None)
                    heard = True
                    self._take(state, connected=True)
        except TimeoutError:
            _LOG.debug("nothing heard", address=self.worker.address)
        except grpc.aio.AioRpcError as error:
            _LOG.debug("watch broke", address=self.worker.address, code=error.code().name)
            if not heard and error.code() is not grpc.StatusCode.UNAVAILABLE:
                _LOG.warning("no watch", address=self.worker.address, error=error.details())
        finally:
            call.cancel()
        return heard

    def _take(self, state: worker_pb2.WatchResponse | None, *, connected: bool) -> None:
        before, self.state = self.worker, state
        self.worker = worker_of(before.address, state, connected=connected)
        if self.worker != before:
            _log_transition(before, self.worker)
            self._changed()


async def _end(channel: grpc.aio.Channel, multiplexer: Multiplexer) -> None:
    """Closes a connection when the last call on it has ended."""
    await asyncio.gather(channel.close(_LAST_CALLS_SECONDS), multiplexer.close())


def _log_transition(before: Worker, after: Worker) -> None:
    log = _LOG.bind(worker=after.name, address=after.address)
    if after.connected != before.connected:
        log.info("worker connected" if after.connected else "worker lost")
    if after.draining and not before.draining:
        log.info("worker drains")
    states = {(it.model, it.precision): it.state for it in before.deployments}
    for it in after.deployments:
        if after.connected and states.get((it.model, it.precision)) is not it.state:
            log.info("model", model=it.model, precision=it.precision, state=it.state, detail=it.detail)


def _channel_arguments(config: GatewayConfig) -> list[tuple[str, int]]:
    most_ms = int(config.reconnect_most_seconds * 1000)
    return [
        # What a worker sends is ours, and the gateway's own limits apply to requests only.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        # A worker that hangs, or whose machine vanished, is noticed also by calls that wait.
        ("grpc.keepalive_time_ms", int(config.resilience.keepalive_seconds * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.resilience.keepalive_timeout_seconds * 1000)),
        # A ping on its way is bounded by this alone, and by default it is a minute.
        ("grpc.http2.ping_timeout_ms", int(config.resilience.keepalive_timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", int(config.reconnect_first_seconds * 1000)),
        ("grpc.max_reconnect_backoff_ms", most_ms),
        # The least time that gRPC gives one attempt to connect; its 20 s would keep a request waiting.
        ("grpc.min_reconnect_backoff_ms", most_ms),
        # Workers are reached directly, and each link has a connection and backoff of its own.
        ("grpc.enable_http_proxy", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
