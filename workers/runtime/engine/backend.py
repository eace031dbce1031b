"""The seam between the engine and what computes: everything that a backend has to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.runtime.engine.plan import StepPlan
from workers.runtime.vision import Preprocessor


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

    @property
    def most_guessing(self) -> int:
        """Rows of a step up to which each may have drafts; in steps with more, none has."""

    @property
    def eyes(self) -> Eyes | None:
        """What sees pictures; ``None`` for text only, where token ids are never negative."""

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step. A tile of the plan has been encoded before."""

    def trim(self) -> None:
        """Gives back working memory that only large steps need; called when there is nothing to do."""


class Eyes(Protocol):
    """The part of a backend that makes rows of features of pictures. Used by the same thread."""

    @property
    def preprocessor(self) -> Preprocessor:
        """What makes pictures into the pixels that these eyes take. Used by other threads."""

    @property
    def row_bytes(self) -> int:
        """Bytes that a kept row of features takes."""

    def encode(self, ids: range, pixels: NDArray[np.float32]) -> None:
        """Computes the features of one tile and keeps them.

        Args:
            ids: Names of the rows that it comes to, in their order: negative token ids.
            pixels: What the preprocessor made of the tile, as ``[1, 3, height, width]``.
        """

    def forget(self, ids: range) -> None:
        """Gives back the features of a picture, of which some may never have been computed."""
