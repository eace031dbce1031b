"""The tensors of a model: their names and shapes as the graph builder wants them, and as files have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workers.onnx_worker.convert.shape import ModelShape

Shapes = dict[str, tuple[int, ...]]

_UNUSED_FACTORS: Final = "rope_factors_long.weight"
"""Beside the factors for short contexts, which are used."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a tensor."""

    tensor: str
    rows: slice


def tensor_shapes(shape: ModelShape) -> Shapes:
    """Return name -> shape, rows first, of every tensor that the graph of such a model is built from."""
    shapes: Shapes = {"token_embd.weight": (shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        shapes |= {f"blk.{layer}.{name}": size for name, size in _layer(shape).items()}
    shapes["output_norm.weight"] = (shape.hidden,)
    if not shape.tied:
        shapes["output.weight"] = (shape.vocab, shape.hidden)
    local = shape.window.rotary if shape.window is not None else shape.rotary
    for factors in (shape.rotary.factors, local.factors):
        if factors is not None:
            shapes[factors] = (shape.head_dim // 2,)
    return shapes


def stored_shapes(shape: ModelShape) -> Shapes:
    """Return name -> shape, rows first, of every tensor that a file of such a model holds."""
    stored: Shapes = {}
    for name, size in tensor_shapes(shape).items():
        whole = part(shape, name).tensor
        stored[whole] = (stored[whole][0] + size[0], *size[1:]) if whole in stored else size
    if shape.family.long_context_factors and shape.rotary.factors is not None:
        stored[_UNUSED_FACTORS] = stored[shape.rotary.factors]
    return stored


def part(shape: ModelShape, name: str) -> Part:
    """Return where in a file the rows of tensor ``name`` stand."""
    if shape.family.fused and name.startswith("blk."):
        _, layer, tensor, _ = name.split(".")
        for whole, members in _fused(shape).items():
            start = 0
            for member, rows in members.items():
                if member == tensor:
                    return Part(f"blk.{layer}.{whole}.weight", slice(start, start + rows))
                start += rows
    return Part(name, slice(None))


def _fused(shape: ModelShape) -> dict[str, dict[str, int]]:
    """Tensor -> its parts and their rows, in order."""
    return {
        "attn_qkv": {"attn_q": shape.queries, "attn_k": shape.keys, "attn_v": shape.keys},
        "ffn_up": {"ffn_gate": shape.feed_forward, "ffn_up": shape.feed_forward},
    }


def _layer(shape: ModelShape) -> Shapes:
    family, hidden, queries, keys = shape.family, shape.hidden, shape.queries, shape.keys
    shapes: Shapes = {
        "attn_norm.weight": (hidden,),
        "attn_q.weight": (queries, hidden),
        "attn_k.weight": (keys, hidden),
        "attn_v.weight": (keys, hidden),
        "attn_output.weight": (hidden, queries),
        "ffn_norm.weight": (hidden,),
        "ffn_gate.weight": (shape.feed_forward, hidden),
        "ffn_up.weight": (shape.feed_forward, hidden),
        "ffn_down.weight": (hidden, shape.feed_forward),
    }
    if family.qkv_bias:
        shapes |= {"attn_q.bias": (queries,), "attn_k.bias": (keys,), "attn_v.bias": (keys,)}
    if family.qk_norm:
        shapes |= {f"attn_{part}_norm.weight": (shape.head_dim,) for part in "qk"}
    if family.post_norms:
        shapes |= {"post_attention_norm.weight": (hidden,), "post_ffw_norm.weight": (hidden,)}
    return shapes
