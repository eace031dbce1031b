"""How a gateway chooses among workers that could all serve a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """Affinity and circuits; see ``docs/routing.md``."""

    affinity: bool = True
    """Conversations go back to the worker that has their beginning in its cache."""
    affinity_entries: int = 65_536
    """Beginnings of prompts that are remembered, about 200 bytes each; the oldest are forgotten."""
    affinity_yield: float = 2.0
    """A conversation goes elsewhere when its worker has no free slot, and another has one, or so many times
    less load."""
    eject_failures: int = 5
    """Generations of a model that a worker fails in a row, before it gets no more of them for a while."""
    eject_error_rate: float = 0.5
    """The same for a share of failures among the last ``eject_samples``."""
    eject_samples: int = 20
    """Generations that the error rate is taken from."""
    eject_first_seconds: float = 5.0
    """How long it gets none; doubles each time that it fails the one generation that tries it again."""
    eject_most_seconds: float = 120.0
    """Longest such time."""

    def __post_init__(self) -> None:
        least = {
            "affinity_entries": 1,
            "affinity_yield": 1,
            "eject_failures": 1,
            "eject_samples": 1,
            "eject_first_seconds": 0,
        }
        for key, value in least.items():
            if getattr(self, key) < value:
                raise ValueError(f"{key} is {getattr(self, key)}, at least {value} is needed")
        if not 0 < self.eject_error_rate <= 1:
            raise ValueError(
                f"eject_error_rate is {self.eject_error_rate}, more than 0 and at most 1 is meant"
            )
        if self.eject_most_seconds < self.eject_first_seconds:
            raise ValueError(
                f"eject_most_seconds is {self.eject_most_seconds}, less than eject_first_seconds"
            )
