"""What the gateway's telemetry can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diplex.telemetry import LogFormat

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Logs, which go to standard error."""

    format: LogFormat = "json"
    """Logs for machines (json) or for people (console)."""
    level: Level = "INFO"
    """Lowest level that is logged."""
