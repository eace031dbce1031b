"""Sizes of the keys and values that a decoder keeps."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class Shape:
    """See the module."""

    layers: int
    kv_heads: int
    head_dim: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Shape | None:
        """The decoder's; ``None`` if its layers don't have them, or not all the same."""
        text = config.get_text_config(decoder=True)
        heads = getattr(text, "num_attention_heads", None)
        layers = getattr(text, "num_hidden_layers", None)
        hidden = getattr(text, "hidden_size", None)
        if not all(isinstance(value, int) and value for value in (heads, layers, hidden)):
            return None
        return cls(
            layers=int(layers or 0),
            kv_heads=getattr(text, "num_key_value_heads", None) or int(heads or 0),
            head_dim=getattr(text, "head_dim", None) or int(hidden or 0) // int(heads or 1),
        )
