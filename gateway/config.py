"""What a gateway can be told; ``gateway.configuration`` reads it and explains it to people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Interval

from diplex.serving import MEBIBYTE, ConnectionConfig, ServerConfig
from diplex.tracing import TracingConfig
from gateway.admission.config import AdmissionConfig
from gateway.fleet.config import DiscoveryConfig
from gateway.fleet.endpoint import parse
from gateway.http.config import HttpConfig
from gateway.resilience.config import ResilienceConfig
from gateway.routing.config import RoutingConfig
from gateway.security.config import SecurityConfig
from gateway.telemetry.config import AdminConfig, HealthConfig, LogConfig, MetricsConfig


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How one gateway listens, which workers it has, and how it ends."""

    listen: str = "127.0.0.1:50051"
    """Where to serve: ``host:port`` (port 0: any free one) or ``unix:/path``."""
    workers: tuple[str, ...] = ("127.0.0.1:50061",)
    """Addresses of the workers, each ``host:port``, ``dns:///name:port`` or ``unix:/path``; in one text, with
    commas or spaces between them. They may come up later, and go and come back. Names are looked up again and
    again, and every address that they have is a worker."""
    processes: Annotated[int, Ge(1)] = 1
    """Gateway processes that share the address, each of which can keep one core busy."""
    reuse_port: bool = False
    """Whether others may listen on the same address too (``SO_REUSEPORT``); ``processes`` sees to that."""
    default_model: str = ""
    """Serves requests that name no model. Empty: the only model in use, if there is just one."""
    max_message_mib: Annotated[float, Interval(gt=0, le=512)] = 32
    """Largest request that policy allows, images included, in MiB; gRPC itself refuses at twice that."""
    drain_seconds: Annotated[float, Ge(0)] = 30.0
    """How long running calls may go on after SIGTERM."""
    reconnect_first_seconds: Annotated[float, Ge(0.001)] = 0.1
    """Pause before a lost worker is looked for again; doubles from try to try, with jitter."""
    reconnect_most_seconds: Annotated[float, Ge(0.1)] = field(
        default=3.0, metadata={"variable": "DIPLEX_RECONNECT_SECONDS"}
    )
    """Longest pause between two tries to reach a lost worker, before jitter."""
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    admission: AdmissionConfig = field(default_factory=AdmissionConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    log: LogConfig = field(default_factory=LogConfig)
    resilience: ResilienceConfig = field(default_factory=ResilienceConfig)
    connections: ConnectionConfig = field(default_factory=ConnectionConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    traces: TracingConfig = field(default_factory=TracingConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)

    def __post_init__(self) -> None:
        for worker in self.workers:
            parse(worker)

    @property
    def max_message_bytes(self) -> int:
        """The same limit in bytes."""
        return int(self.max_message_mib * MEBIBYTE)

    @property
    def server(self) -> ServerConfig:
        """The part that concerns the gRPC server."""
        return ServerConfig(
            listen=self.listen,
            max_message_bytes=self.max_message_bytes,
            drain_seconds=self.drain_seconds,
            reuse_port=self.reuse_port,
            connections=self.connections,
            admin_listen=self.admin.listen,
            health_listen=self.health.listen,
            tls=self.security.tls,
        )
