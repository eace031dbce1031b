"""The families of models that can be converted: what sets each apart from plain Llama.

The graph builder knows one decoder with a few switches; a family says how they stand, and which of a file's
settings it reads. How a family's tensors are named and laid out in a file follows from the same switches
(:mod:`~workers.onnx_worker.convert.layout`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

_SETTINGS: Final = frozenset({
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.layer_norm_rms_epsilon", "attention.sliding_window", "attention.value_length", "block_count",
    "context_length", "embedding_length", "expert_count", "expert_used_count", "feed_forward_length",
    "rope.dimension_count", "rope.freq_base", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.type", "tensor_data_layout", "vocab_size",
})  # fmt: skip


class Activation(Enum):
    """What the gate goes through before it is multiplied by up."""

    SILU = "silu"
    """``x * sigmoid(x)``."""
    GELU = "gelu"
    """GELU in its tanh form, Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One family. The defaults are Llama's, but for the order of its rows."""

    name: str
    """``general.architecture`` of its files."""
    pairs_adjacent: bool = False
    """Whether the two elements of a rotated pair stand next to each other in rows of queries and keys, and
    not half a head apart."""
    fused: bool = False
    """Whether queries, keys and values are one tensor in the file, and gate and up another."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    qk_norm: bool = False
    """Whether each head's query and key is normalised before it is rotated."""
    post_norms: bool = False
    """Whether what attention and feed-forward add to the residual stream is normalised first. The weights of
    those norms keep the stream from being rotated."""
    embedding_scaled: bool = False
    """Whether embeddings are multiplied by the root of their width."""
    activation: Activation = Activation.SILU
    window_period: int = 0
    """With a sliding window: each period's last layer sees everything all the same; 0 for none."""
    local_rope_base: float | None = None
    """Rotary base of layers with a window; ``None`` for that of all layers."""
    long_context_factors: bool = False
    """Whether the rotary embedding has factors for short and for long contexts (LongRoPE)."""
    further_settings: frozenset[str] = frozenset()
    """Metadata that this family's files have besides what all have; without the family's prefix."""

    @property
    def settings(self) -> frozenset[str]:
        """Keys of the metadata that are understood, without the family's prefix."""
        return _SETTINGS | self.further_settings


_LLAMA: Final = Family(name="llama", pairs_adjacent=True)
_QWEN2: Final = Family(name="qwen2", qkv_bias=True)
_QWEN3: Final = Family(name="qwen3", qk_norm=True)
_PHI3: Final = Family(
    name="phi3",
    fused=True,
    long_context_factors=True,
    further_settings=frozenset({"rope.scaling.attn_factor"}),
)
_GEMMA3: Final = Family(
    name="gemma3",
    qk_norm=True,
    post_norms=True,
    embedding_scaled=True,
    activation=Activation.GELU,
    window_period=6,
    local_rope_base=10000.0,
    further_settings=frozenset({"attention.sliding_window_pattern", "rope.freq_base_swa"}),
)

FAMILIES: Final = {family.name: family for family in (_LLAMA, _GEMMA3, _PHI3, _QWEN2, _QWEN3)}
"""``general.architecture`` -> family. Mistral's files say ``llama``, Qwen2.5's ``qwen2``."""

SUPPORTED: Final = f"supported are dense GGUF files of the families {', '.join(FAMILIES)}"
