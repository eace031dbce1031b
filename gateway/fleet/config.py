"""How a gateway finds its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How workers are found behind DNS names."""

    interval_seconds: Annotated[float, Gt(0)] = 5.0
    """Pause between two look-ups of a name, give or take a tenth."""
    address_family: Literal["any", "ipv4", "ipv6"] = "any"
    """Which addresses of a name count. With ``any`` a worker that has one of each kind is seen twice."""
