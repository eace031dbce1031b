"""Which of several workers that could serve a request does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """Which of several workers that could serve a request does; see ``docs/routing.md``."""

    affinity: bool = True
    """Conversations go back to the worker that has their beginning in its cache."""
    affinity_entries: Annotated[int, Ge(1)] = 65_536
    """Beginnings of prompts that are remembered, about 200 bytes each; the oldest are forgotten."""
    affinity_yield: Annotated[float, Ge(1)] = 2.0
    """A conversation goes elsewhere when its worker has no free slot, and another has one, or so many times
    less load."""
    eject_failures: Annotated[int, Ge(1)] = 5
    """Generations of a model that a worker fails in a row, before it gets no more of them for a while."""
    eject_error_rate: Annotated[float, Interval(gt=0, le=1)] = 0.5
    """The same for a share of failures among the last ``eject_samples``."""
    eject_samples: Annotated[int, Ge(1)] = 20
    """Generations that the error rate is taken from."""
    eject_first_seconds: Annotated[float, Ge(0)] = 5.0
    """How long it gets none; doubles each time that it fails the one generation that tries it again."""
    eject_most_seconds: float = 120.0
    """Longest such time."""

    def __post_init__(self) -> None:
        if self.eject_most_seconds < self.eject_first_seconds:
            raise ValueError(
                f"eject_most_seconds is {self.eject_most_seconds}, less than eject_first_seconds"
            )
