"""One gateway, whole: fleet, core, edges and health, from start to drain."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from diplex.exposure import is_public
from diplex.running import Running
from diplex.serving import Server
from diplex.v1 import generation_pb2, models_pb2
from gateway.admission.admission import Admission
from gateway.config import GatewayConfig
from gateway.edge import GenerationEdge, ModelEdge
from gateway.fleet.discovery import Resolve
from gateway.fleet.fleet import Fleet
from gateway.http.application import application
from gateway.http.endpoint import Edge
from gateway.http.generation import Generations
from gateway.http.hosts import AnyHost, KnownHosts
from gateway.http.images import Images
from gateway.http.loading import Loading
from gateway.http.models import ModelList
from gateway.http.server import HttpServer
from gateway.inference import Inference
from gateway.models import Models
from gateway.security.authentication import Authenticator
from gateway.security.guard import GatewayGuard
from gateway.telemetry.observed import ObservedInference


class Gateway:
    """Serves while it is open (``async with``); ``address`` is then where.

    Args:
        config: What it was told.
        resolve: What looks workers' names up; ``None`` for the operating system.

    Raises:
        TooOpen: Everybody could reach it, and nobody would be asked who they are.
        InvalidKeysFile: There is a keys file that can't be used.
        OSError: On opening, when the address can't be bound or the certificates can't be used.
    """

    def __init__(self, config: GatewayConfig, resolve: Resolve | None = None) -> None:
        for listen in filter(None, (config.listen, config.http.listen)):
            config.security.check_listen(listen)
        self.fleet = Fleet(config, resolve)
        self._admission = Admission(config.admission)
        inference = self._inference = ObservedInference(
            self.fleet, config.default_model, config.resilience, self._admission
        )
        models = Models(self.fleet, config.default_model)
        authenticator = Authenticator(config.security)
        self._server = Server(
            config.server,
            {
                generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]: GenerationEdge(inference),
                models_pb2.DESCRIPTOR.services_by_name["ModelService"]: ModelEdge(inference, models),
            },
            GatewayGuard(authenticator),
        )
        self._http = _http_server(
            config,
            inference,
            models,
            fleet=self.fleet,
            authenticator=authenticator,
            running=self._server.running,
        )
        self._health: asyncio.Task[None] | None = None
        self.address = ""
        self.url = ""
        """Of the HTTP edge; empty without one."""

    async def __aenter__(self) -> Self:
        self.address = await self._server.start()
        try:
            self.url = await self._http.start() if self._http else ""
        except OSError:
            await self._server.stop()
            raise
        await self.fleet.__aenter__()
        self._health = asyncio.create_task(self._follow_health(), name="health")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_health()
        if self._http:
            await self._http.stop(None)
        await self._server.stop()
        await self._inference.close()
        await self.fleet.__aexit__(kind, error, trace)
        self._admission.close()

    async def run_until_signal(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains."""
        await self._server.run_until_signal(
            on_drain=self._stop_health, beside=self._http.stop if self._http else None
        )

    async def _follow_health(self) -> None:
        """Says SERVING while a model is ready on a worker that takes requests, and only then."""
        async for fleet in self.fleet.snapshots():
            await self._server.set_serving(serving=fleet.can_answer)
            await self._server.set_models(fleet.models)

    async def _stop_health(self) -> None:
        if self._health:
            self._health.cancel()
            await asyncio.wait([self._health])


def _http_server(
    config: GatewayConfig,
    inference: Inference,
    models: Models,
    *,
    fleet: Fleet,
    authenticator: Authenticator,
    running: Running,
) -> HttpServer | None:
    http = config.http
    if not http.listen:
        return None
    # On a unix socket there are no names; on a public address whoever opened it to everybody wants that.
    asks = config.security.authenticates or http.listen.startswith("unix:") or is_public(http.listen)
    edge = Edge(
        authenticator, AnyHost() if asks else KnownHosts(http.hosts), running, config.max_message_bytes
    )
    images = Images(http.image_hosts, http.image_seconds)
    known = ModelList(inference)
    app = application(
        edge,
        Generations(inference, images),
        known,
        Loading(models),
        lambda: fleet.snapshot.can_answer,
        playground=http.playground,
    )
    return HttpServer(http.listen, app, config.security.tls, reuse_port=config.reuse_port, on_stop=known.end)
