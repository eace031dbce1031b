"""The tensors of a folder of safetensors under the names that the graph builder knows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.layout import Shapes, part, tensor_shapes
from workers.onnx_worker.convert.shape import ModelShape
from workers.runtime.checkpoint import TensorFolder
from workers.runtime.checkpoint.decoder import Decoder

DIVISORS: Final = "rope_freqs.weight"
"""Not a tensor of the folder: worked out from its settings."""
LOCAL_DIVISORS: Final = "rope_freqs_local.weight"
"""The same for layers with a window."""

_MODEL: Final[dict[str, str]] = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER: Final[dict[str, str]] = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_FUSED: Final[dict[str, str]] = {"ffn_up": "mlp.gate_up_proj"}
_NORMS_AROUND: Final[dict[str, str]] = {
    "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip


class CheckpointTensors:
    """A :class:`~workers.onnx_worker.convert.tensors.Tensors`; queries and keys have its order.

    Args:
        tensors: The folder's.
        decoder: What its settings say.
        shape: The same as the graph builder knows it.
    """

    def __init__(self, tensors: TensorFolder, decoder: Decoder, shape: ModelShape) -> None:
        self._tensors = tensors
        self._decoder = decoder
        self._shape = shape
        self._shapes = tensor_shapes(shape)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._tensors.path

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name``, rows (outputs) first."""
        return self._shapes[name]

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """Return tensor ``name`` as float32 in its :meth:`shape`."""
        rotary = {DIVISORS: self._decoder.rotary, LOCAL_DIVISORS: self._decoder.local_rotary}
        if name in rotary:
            return np.asarray(rotary[name].divisors, np.float32)
        stored = part(self._shape, name)
        values = self._tensors.floats(_published(self._shape, stored.tensor), stored.rows)
        if name.endswith("norm.weight"):
            values = values + np.float32(self._decoder.family.norm_offset)
        return values


def stored_shapes(decoder: Decoder, shape: ModelShape) -> Shapes:
    """Return name -> shape of every tensor that a folder of such a model holds."""
    stored: Shapes = {}
    for name, size in tensor_shapes(shape).items():
        if name in {DIVISORS, LOCAL_DIVISORS} or (name == "output.weight" and decoder.tied):
            continue
        whole = _published(shape, part(shape, name).tensor)
        stored[whole] = (stored[whole][0] + size[0], *size[1:]) if whole in stored else size
    return stored


def _published(shape: ModelShape, name: str) -> str:
    if name in _MODEL:
        return _MODEL[name]
    names = (
        _LAYER | (_FUSED if shape.family.fused else {}) | (_NORMS_AROUND if shape.family.post_norms else {})
    )
    _, layer, tensor, kind = name.split(".")
    return f"model.layers.{layer}.{names[tensor]}.{kind}"
