"""A folder of safetensors as the reference reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.runtime.checkpoint import CheckpointFolder, language_part
from workers.runtime.checkpoint.decoder import read_decoder
from workers.runtime.fidelity.traits import Gate, Traits

_OUTSIDE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_INSIDE: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TWO_NORMS: Final = {"ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS: Final = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED: Final = {"ffn_up": "mlp.gate_up_proj"}


class FolderOrigin:
    """An :class:`~workers.runtime.fidelity.origin.Origin`.

    Args:
        path: The folder.

    Raises:
        UnsupportedModel: It can't be read, or holds a model of a kind that the reference doesn't know.
    """

    def __init__(self, path: Path) -> None:
        folder = language_part(CheckpointFolder(path))
        self._decoder = decoder = read_decoder(folder.config)
        self._tensors = folder.tensors
        present = self._present = set(folder.tensors.names)
        four = any("pre_feedforward_layernorm" in name for name in present)
        fused = any("gate_up_proj" in name for name in present)
        self._inside = _INSIDE | (_FOUR_NORMS if four else _TWO_NORMS) | (_FUSED if fused else {})
        self.traits = Traits(
            gate=Gate.GELU if decoder.family.gelu else Gate.SILU,
            scaled_embedding=decoder.family.embedding_scaled,
        )
        self.layers, self.hidden = decoder.layers, decoder.hidden
        self.heads, self.kv_heads, self.width = decoder.heads, decoder.kv_heads, decoder.head_dim
        self.epsilon = decoder.epsilon
        self.divisor = 1 / (decoder.attention_scale or decoder.head_dim**-0.5)

    def has(self, name: str) -> bool:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        if name == "output.weight" and self._decoder.tied:
            return False
        return self._name(name) in self._present

    def floats(self, name: str, rows: Any = slice(None)) -> npt.NDArray[Any]:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        values = self._tensors.floats(self._name(name), rows)
        if name.endswith("norm.weight"):
            values = values + np.float32(self._decoder.family.norm_offset)
        return values

    def window(self, layer: int) -> int | None:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        return self._decoder.windows[layer]

    def turning(self, *, local: bool) -> tuple[npt.NDArray[np.float64], float]:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        rotary = self._decoder.local_rotary if local else self._decoder.rotary
        speeds = rotary.base ** (-np.arange(0, self.width, 2, dtype=np.float64) / self.width)
        return speeds / np.asarray(rotary.divisors or 1.0), rotary.magnitude

    def _name(self, name: str) -> str:
        if name in _OUTSIDE:
            return _OUTSIDE[name]
        _, layer, part, kind = name.split(".")
        return f"model.layers.{layer}.{self._inside.get(part, part)}.{kind}"
