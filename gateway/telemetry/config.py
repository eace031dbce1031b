"""What the gateway's telemetry can be told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from diplex.telemetry import LogFormat

_HOST_AND_PORT: Final = re.compile(r"(\S*:)?\d{1,5}")

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Logs, which go to standard error."""

    format: LogFormat = "json"
    """Logs for machines (json) or for people (console)."""
    level: Level = "INFO"
    """Lowest level that is logged."""


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """A gRPC port for operators: channelz, health and reflection."""

    listen: str = ""
    """Where, as ``host:port`` or ``unix:/path``. Empty: nowhere. Channelz names callers' addresses to whoever
    reaches it."""


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """A gRPC port with health alone and without TLS, for probes that speak none, as Kubernetes' do."""

    listen: str = ""
    """Where, as ``host:port`` or ``unix:/path``. Empty: nowhere but on the public port."""


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Metrics for Prometheus, over HTTP at ``/metrics``."""

    listen: str = ""
    """Where, as ``host:port``. Empty: nowhere. Whoever reaches it can read it."""

    def __post_init__(self) -> None:
        if self.listen and not _HOST_AND_PORT.fullmatch(self.listen):
            raise ValueError(f"listen should be host:port, not {self.listen}")
