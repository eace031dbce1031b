"""The Llama family as GGUF describes it: sizes, and a check that nothing in the file would be left out.

A file is refused when it holds a tensor or a setting that this converter does not know, since leaving it out
would give another model than the file describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.gguf_file import GgufFile

SUPPORTED: Final = "supported are dense Llama-family GGUF files (general.architecture = llama)"

_KNOWN_SETTINGS: Final = frozenset({
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.layer_norm_rms_epsilon", "attention.value_length", "block_count", "context_length",
    "embedding_length", "expert_count", "expert_used_count", "feed_forward_length", "rope.dimension_count",
    "rope.freq_base", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.type",
    "tensor_data_layout", "vocab_size",
})  # fmt: skip

_LISTED: Final = 4  # names of unknown tensors that a message holds at most

LAYER_TENSORS: Final = (
    "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down",
)  # fmt: skip
"""The tensors of one layer, named ``blk.{layer}.{tensor}.weight``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Sizes and constants of one Llama model."""

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
    rope_base: float
    """Theta of the rotary embedding."""
    rope_factors: bool
    """Whether the tensor ``rope_freqs.weight`` divides the rotary frequencies (Llama 3.1 and later)."""
    tied: bool
    """Whether the token embedding is the output head too."""


def read_shape(file: GgufFile) -> LlamaShape:
    """Read the model's sizes from its metadata and check every tensor of the file against them.

    Raises:
        UnsupportedModel: It is of another family, or has parts that the graph would leave out.
    """
    architecture = file.require("general.architecture", str)
    if architecture != "llama":
        message = f"{file.path.name} has architecture {architecture!r}, which can't be converted; {SUPPORTED}"
        raise UnsupportedModel(message)
    _check_settings(file)
    hidden = file.require("llama.embedding_length", int)
    heads = file.require("llama.attention.head_count", int)
    if min(hidden, heads) < 1:
        message = f"{file.path.name}: embedding_length and attention.head_count must be positive"
        raise UnsupportedModel(message)
    shape = LlamaShape(
        layers=file.require("llama.block_count", int),
        hidden=hidden,
        feed_forward=file.require("llama.feed_forward_length", int),
        heads=heads,
        kv_heads=_optional(file, "llama.attention.head_count_kv", heads),
        head_dim=_optional(file, "llama.attention.key_length", hidden // heads),
        vocab=file.shape("token_embd.weight")[0],
        context=file.require("llama.context_length", int),
        rms_epsilon=file.require("llama.attention.layer_norm_rms_epsilon", float),
        rope_base=_optional_float(file, "llama.rope.freq_base", 10000.0),
        rope_factors="rope_freqs.weight" in file.tensor_names,
        tied="output.weight" not in file.tensor_names,
    )
    _check_shape(file, shape)
    _check_tensors(file, shape)
    return shape


def _optional(file: GgufFile, key: str, default: int) -> int:
    value = file.get(key, int)
    return default if value is None else value


def _optional_float(file: GgufFile, key: str, default: float) -> float:
    value = file.get(key, float)
    return default if value is None else value


def _check_settings(file: GgufFile) -> None:
    unknown = [key for key in file.keys if key.startswith("llama.") and key[6:] not in _KNOWN_SETTINGS]
    if unknown:
        message = f"{file.path.name} has settings that can't be converted: {', '.join(unknown)}; {SUPPORTED}"
        raise UnsupportedModel(message)
    if experts := file.get("llama.expert_count", int):
        message = f"{file.path.name} is a mixture of {experts} experts, which can't be converted; {SUPPORTED}"
        raise UnsupportedModel(message)
    scaling = file.get("llama.rope.scaling.type", str) or "none"
    if scaling != "none":
        message = (
            f"{file.path.name} scales its rotary embedding by {scaling!r}, which can't be converted; "
            "supported are none and Llama 3's frequency factors (rope_freqs.weight)"
        )
        raise UnsupportedModel(message)


def _check_shape(file: GgufFile, shape: LlamaShape) -> None:
    sizes = (shape.layers, shape.feed_forward, shape.kv_heads, shape.head_dim, shape.vocab, shape.context)
    value_length = _optional(file, "llama.attention.value_length", shape.head_dim)
    rotary = _optional(file, "llama.rope.dimension_count", shape.head_dim)
    problems = [
        (min(sizes) < 1, "a size is not positive"),
        (shape.layers > len(file.tensor_names), f"{shape.layers} layers in {len(file.tensor_names)} tensors"),
        (shape.head_dim % 2 != 0, f"an odd head width ({shape.head_dim})"),
        (shape.heads % max(shape.kv_heads, 1) != 0, f"{shape.heads} heads over {shape.kv_heads} key heads"),
        (value_length != shape.head_dim, f"keys of width {shape.head_dim}, values of {value_length}"),
        (rotary != shape.head_dim, f"rotary over {rotary} of {shape.head_dim} elements of a head"),
    ]  # fmt: skip
    if found := [what for wrong, what in problems if wrong]:
        message = f"{file.path.name} can't be converted: {', '.join(found)}; {SUPPORTED}"
        raise UnsupportedModel(message)


def _check_tensors(file: GgufFile, shape: LlamaShape) -> None:
    expected = tensor_shapes(shape)
    present = set(file.tensor_names)
    if unknown := sorted(present - set(expected)):
        listed = ", ".join(unknown[:_LISTED]) + (", …" if len(unknown) > _LISTED else "")
        message = f"{file.path.name} has tensors that can't be converted: {listed}; {SUPPORTED}"
        raise UnsupportedModel(message)
    for name, wanted in expected.items():
        if file.shape(name) != wanted:
            message = (
                f"{file.path.name}: tensor {name} has shape {file.shape(name)}, its metadata says {wanted}"
            )
            raise UnsupportedModel(message)


def tensor_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Return tensor name -> shape, rows first, of a file with these sizes."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sizes: tuple[tuple[int, ...], ...] = (
        (shape.hidden,), (queries, shape.hidden), (keys, shape.hidden), (keys, shape.hidden),
        (shape.hidden, queries), (shape.hidden,), (shape.feed_forward, shape.hidden),
        (shape.feed_forward, shape.hidden),
        (shape.hidden, shape.feed_forward),
    )  # fmt: skip
    expected: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        names = (f"blk.{layer}.{tensor}.weight" for tensor in LAYER_TENSORS)
        expected.update(zip(names, sizes, strict=True))
    expected["output_norm.weight"] = (shape.hidden,)
    if not shape.tied:
        expected["output.weight"] = (shape.vocab, shape.hidden)
    if shape.rope_factors:
        expected["rope_freqs.weight"] = (shape.head_dim // 2,)
    return expected
