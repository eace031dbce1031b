"""A model's sizes and constants, as its graph is built from them."""

from __future__ import annotations

from dataclasses import dataclass

from workers.onnx_worker.convert.family import Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """How positions turn queries and keys."""

    base: float
    """Theta."""
    stretch: float = 1.0
    """What all frequencies are divided by."""
    factors: str | None = None
    """Name of the tensor that divides each pair's frequency."""
    magnitude: float = 1.0
    """What turned queries and keys are multiplied by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Layers that see the latest tokens only."""

    tokens: int
    """How many a token sees, itself among them."""
    period: int
    """The last layer of each period sees everything; 0 if none does."""
    rotary: Rotary


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Sizes and constants of one model."""

    family: Family
    layers: int
    hidden: int
    """Width of the residual stream."""
    feed_forward: int
    """Width between the gate/up and the down projections."""
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    """Most tokens in one sequence."""
    rms_epsilon: float
    rotary: Rotary
    """Of layers without a window."""
    window: Window | None
    attention_scale: float | None
    """What the products of queries and keys are multiplied by; ``None`` for ``1 / sqrt(head_dim)``."""
    tied: bool
    """Whether the token embedding is the output head too."""
    sees: bool = False
    """Whether rows of image features take the place of some embeddings."""

    @property
    def queries(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys of a token, and of all values."""
        return self.kv_heads * self.head_dim

    def window_of(self, layer: int) -> Window | None:
        """The window of a layer; ``None`` if it sees everything."""
        if self.window is None or (self.window.period and (layer + 1) % self.window.period == 0):
            return None
        return self.window
