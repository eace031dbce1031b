"""How a gateway finds its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How workers are found behind DNS names."""

    interval_seconds: float = 5.0
    """Pause between two look-ups of a name, give or take a tenth."""
    address_family: Literal["any", "ipv4", "ipv6"] = "any"
    """Which addresses of a name count. With ``any`` a worker that has one of each kind is seen twice."""

    def __post_init__(self) -> None:
        if self.interval_seconds <= 0:
            raise ValueError(f"interval_seconds is {self.interval_seconds}, more than 0 is needed")
        if self.address_family not in ("any", "ipv4", "ipv6"):
            raise ValueError(f"address_family is {self.address_family!r}, any, ipv4 or ipv6 is meant")
