"""What a gateway can be told; ``python -m gateway --help`` explains it to people."""

from __future__ import annotations

from dataclasses import dataclass, field

from diplex.serving import MEBIBYTE, ServerConfig
from gateway.resilience.config import ResilienceConfig


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """How one gateway listens, which workers it has, and how it ends."""

    listen: str = "127.0.0.1:50051"
    """``host:port`` (port 0: any free one) or ``unix:/path``."""
    workers: tuple[str, ...] = ("127.0.0.1:50061",)
    """Addresses of the workers, each ``host:port`` or ``unix:/path``."""
    default_model: str = ""
    """Serves requests that name no model. Empty: the only model in use, if there is just one."""
    max_message_bytes: int = 32 * MEBIBYTE
    """Largest request that policy allows; gRPC itself refuses at twice that."""
    drain_seconds: float = 30.0
    """How long running calls may go on after SIGTERM."""
    reconnect_first_seconds: float = 0.1
    """Pause before a lost worker is looked for again; doubles from try to try, with jitter."""
    reconnect_most_seconds: float = 3.0
    """Longest such pause, before jitter."""
    resilience: ResilienceConfig = field(default_factory=ResilienceConfig)

    @property
    def server(self) -> ServerConfig:
        """The part that concerns the gRPC server."""
        return ServerConfig(
            listen=self.listen,
            max_message_bytes=self.max_message_bytes,
            drain_seconds=self.drain_seconds,
        )
