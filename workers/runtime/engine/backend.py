"""The seam between the engine and what computes: everything that a backend has to be."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.runtime.engine.plan import StepPlan


class Backend(Protocol):
    """Holds a model's weights and its KV cache, and runs steps. Used by one thread only."""

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold."""

    def forward(self, plan: StepPlan) -> NDArray[np.float32]:
        """Runs one step.

        Returns:
            Logits, float32 ``[len(plan.sampled), vocabulary]``, one row for each of ``plan.sampled``. The
            array may be overwritten by the next step.
        """
