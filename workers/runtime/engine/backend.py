"""The seam between the engine and what computes: everything that a backend has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.runtime.engine.plan import StepPlan


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gave and what it took."""

    done: StepPlan
    """What has been done: the plan's rows and chunks, and before these the chunks ``beside`` of this step or
    earlier ones that have come to their end."""
    logits: NDArray[np.float32]
    """Float32 ``[len(done.sampled), vocabulary]``, one row for each of ``done.sampled``. The array may be
    overwritten by the next step."""
    prefill_seconds: float
    """Time of the plan's changes and chunks."""
    decode_seconds: float
    """Time of the decode run."""
    beside_seconds: float = 0.0
    """Time of the chunks ``beside`` that have come to their end."""


class Backend(Protocol):
    """Holds a model's weights and its KV cache, and runs steps. Used by one thread only."""

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold."""

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step. Without rows and chunks it waits for the next chunk beside, if there is one."""

    def trim(self) -> None:
        """Gives back working memory that only large steps need; called when there is nothing to do."""
