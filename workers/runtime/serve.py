"""A worker from start to drain: supervisor and gRPC server, whatever the backend."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from prometheus_client import REGISTRY

from diplex.metrics import metrics_server
from diplex.serving import Server, ServerConfig
from diplex.version import installed_version
from diplex.worker.v1 import worker_pb2
from workers.runtime.catalogue.watch import CatalogueFiles, watch
from workers.runtime.guard import GatewayCheck, GatewayGuard
from workers.runtime.metrics import EngineMetrics
from workers.runtime.servicer import WorkerServicer
from workers.runtime.supervisor.model import State
from workers.runtime.supervisor.supervisor import Supervisor


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """How a worker serves."""

    server: ServerConfig
    models: Sequence[str]
    """Names of the models to load at the start."""
    callers: GatewayCheck = field(default_factory=GatewayCheck)
    """What is asked of gateways."""
    catalogue: CatalogueFiles | None = None
    """Read again when they change; ``None`` for never."""
    metrics_listen: str = ""
    """Where metrics are served over HTTP, ``host:port``; empty for nowhere."""
    name: str = ""
    """Identity in events and receipts; empty for backend, host and process id."""


async def serve(config: WorkerConfig, supervisor: Supervisor) -> None:
    """Serves until SIGTERM or SIGINT, then drains and stops all engines.

    Raises:
        ModelNotFound: A model isn't in the catalogue.
        OSError: The address can't be bound.
    """
    name = config.name or f"{supervisor.backend}@{socket.gethostname()}:{os.getpid()}"
    servicer = WorkerServicer(supervisor, worker=name, version=installed_version())
    service = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
    server = Server(config.server, {service: servicer}, GatewayGuard(config.callers))
    with ExitStack() as until_end:
        metrics = EngineMetrics(supervisor, asyncio.get_running_loop())
        REGISTRY.register(metrics)
        until_end.callback(REGISTRY.unregister, metrics)
        until_end.enter_context(metrics_server(config.metrics_listen))
        await _serve(server, supervisor, config)


async def _serve(server: Server, supervisor: Supervisor, config: WorkerConfig) -> None:
    await server.start()
    tasks = [
        asyncio.create_task(_report_health(server, supervisor), name="health"),
        asyncio.create_task(supervisor.unload_what_is_over(), name="unload"),
        asyncio.create_task(supervisor.keep_spare_engine(), name="spare"),
    ]
    if config.catalogue is not None:
        follow = watch(config.catalogue, supervisor.replace_catalogue)
        tasks.append(asyncio.create_task(follow, name="catalogue"))
    try:
        for model in config.models:
            supervisor.load(model)
        await server.run_until_signal(supervisor.drain)
    finally:
        for task in tasks:
            task.cancel()
        await server.stop()
        await supervisor.close()


async def _report_health(server: Server, supervisor: Supervisor) -> None:
    """SERVING while a request can be answered."""
    while True:
        seen = supervisor.changes.count
        await server.set_serving(serving=supervisor.ready)
        await server.set_models(_ready_models(supervisor))
        await supervisor.changes.after(seen)


def _ready_models(supervisor: Supervisor) -> dict[str, bool]:
    """Names of the models that are loaded or on their way, and whether each can answer."""
    models: dict[str, bool] = {}
    for model in supervisor.models:
        ready = model.state is State.READY and not supervisor.draining
        models[model.entry.name] = models.get(model.entry.name, False) or ready
    return models
