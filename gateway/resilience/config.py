"""How much is done for a generation whose worker or client is lost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResilienceConfig:
    """When workers count as lost, and how long a generation is kept going."""

    keepalive_seconds: float = 2.0
    """Silence on the connection to a worker after which the gateway asks for a sign of life."""
    keepalive_timeout_seconds: float = 4.0
    """How long the sign may take before the worker counts as lost."""
    most_losses: int = 4
    """Workers that a generation may lose in a row, without anything new between them, before it is given up:
    it may itself be what kills them."""
    wait_seconds: float = 30.0
    """How long a generation whose worker was lost waits for one that can go on with it."""
    pause_first_seconds: float = 0.05
    """Pause before a worker is tried again that has failed the generation; doubles from time to time, with
    jitter."""
    pause_most_seconds: float = 1.0
    """Longest such pause, before jitter."""

    def __post_init__(self) -> None:
        """Refuses what can't be meant."""
        for name in ("keepalive_seconds", "keepalive_timeout_seconds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be 1 at least")
        if self.most_losses < 1:
            raise ValueError(f"most_losses is {self.most_losses}, and must be 1 at least")
        for name in ("wait_seconds", "pause_first_seconds", "pause_most_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, and can't be negative")
