"""What a model's tensors don't tell of how it computes: the facts that the reference goes by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Pairs(Enum):
    """Which two elements of a head turn together."""

    NEIGHBOURS = "neighbours"
    """``2 i`` and ``2 i + 1``."""
    HALVES = "halves"
    """``i`` and ``i + width / 2``."""


class Gate(Enum):
    """What a gate goes through."""

    SILU = "silu"
    """``x / (1 + exp(-x))``."""
    GELU = "gelu"
    """``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The facts of one architecture."""

    pairs: Pairs = Pairs.HALVES
    gate: Gate = Gate.SILU
    scaled_embedding: bool = False
    """Embeddings are multiplied by the root of their width."""
    period: int = 0
    """Of every so many layers the last sees everything, if there is a window at all; 0: none does."""
    local_base: float | None = None
    """Theta in layers with a window, if it is another one."""
    layers_of_wide_scale: int | None = None
    """The model with so many layers divides scores by ``sqrt(hidden / heads)`` (Gemma 3 27B)."""


TRAITS: Final = {
    "llama": Traits(pairs=Pairs.NEIGHBOURS),
    "qwen2": Traits(),
    "qwen3": Traits(),
    "phi3": Traits(),
    "gemma3": Traits(
        gate=Gate.GELU, scaled_embedding=True, period=6, local_base=10000.0, layers_of_wide_scale=62
    ),
}
"""``general.architecture`` -> facts."""
