"""``/metrics``: what this process counts, or all processes of the gateway together."""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.caller import Caller
from gateway.http.endpoint import Request
from gateway.http.reply import Reply


async def metrics(_: Request, __: Caller, reply: Reply) -> None:
    """``GET /metrics``, for whoever may call at all."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # as `gateway.processes` sets it
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # as it is shipped
    await reply.whole(generate_latest(registry), media_type=CONTENT_TYPE_LATEST.encode())
