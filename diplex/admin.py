"""gRPC servers beside the one that callers use: for operators, and for probes.

Operators find channelz beside health and reflection.

Channelz tells of every channel, connection and stream of the process (https://grpc.io/blog/a-short-introduction-to-channelz/),
addresses of callers among them, so it has no place on the port that callers use. Probes find health alone, as
it is and without TLS: Kubernetes' gRPC probes speak none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

import grpc
import structlog
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

_OPTIONS: Final = [("grpc.so_reuseport", 0)]

_LOG: Final = structlog.get_logger()


@asynccontextmanager
async def admin_server(listen: str, healths: health.aio.HealthServicer) -> AsyncGenerator[None]:
    """Serves operators while it is open.

    Args:
        listen: ``host:port``, port 0 for any free one, or ``unix:/path``. Empty: serves nothing.
        healths: The health that the main server tells.

    Raises:
        OSError: The address can't be bound.
    """
    if not listen:
        yield
        return
    server = grpc.aio.server(options=_OPTIONS)
    channelz.add_channelz_servicer(server)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    names = (channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name, health.SERVICE_NAME)
    reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
    async with _open(server, listen, "admin"):
        yield


@asynccontextmanager
async def health_server(listen: str, healths: health.aio.HealthServicer) -> AsyncGenerator[None]:
    """Serves probes while it is open.

    Args:
        listen: See :func:`admin_server`.
        healths: The health that the main server tells.

    Raises:
        OSError: The address can't be bound.
    """
    if not listen:
        yield
        return
    server = grpc.aio.server(options=_OPTIONS)
    health_pb2_grpc.add_HealthServicer_to_server(healths, server)
    async with _open(server, listen, "health"):
        yield


@asynccontextmanager
async def _open(server: grpc.aio.Server, listen: str, name: str) -> AsyncGenerator[None]:
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise OSError(f"can't serve {name} on {listen}: is the address in use?") from error
    await server.start()
    address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    _LOG.info(name, address=address)
    try:
        yield
    finally:
        await server.stop(None)
