"""What the reference reads: one model's numbers, under the names that GGUF files have for tensors."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workers.runtime.fidelity.traits import Traits


class Origin(Protocol):
    """One model as it was published."""

    traits: Traits
    layers: int
    hidden: int
    """Width of the residual stream."""
    heads: int
    kv_heads: int
    width: int
    """Of a head."""
    epsilon: float
    divisor: float
    """What products of queries and keys are divided by."""

    def has(self, name: str) -> bool:
        """Whether there is a tensor ``name``, as ``blk.0.attn_q.weight``."""

    def floats(self, name: str, rows: Any = slice(None)) -> npt.NDArray[Any]:
        """Tensor ``name``, or rows of it, in its own shape."""

    def window(self, layer: int) -> int | None:
        """How many tokens a layer's queries see; ``None`` for all."""

    def turning(self, *, local: bool) -> tuple[npt.NDArray[np.float64], float]:
        """By how much each pair of a head turns a position, ``[width / 2]``, and what that is multiplied by.

        Args:
            local: In layers with a window.
        """
