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

    logits: NDArray[np.float32]
    """Float32 ``[len(plan.sampled), vocabulary]``, one row for each of ``plan.sampled``. The array may be
    overwritten by the next step."""
    prefill_seconds: float
    """Time of the chunks."""
    decode_seconds: float
    """Time of the decode run."""


class Backend(Protocol):
    """Holds a model's weights and its KV cache, and runs steps. Used by one thread only."""

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold."""

    @property
    def stages(self) -> int:
        """Parts of the model that it can compute one by one, for a staged chunk; 1 if it can't."""

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step."""

    def trim(self) -> None:
        """Gives back working memory that only large steps need; called when there is nothing to do."""
