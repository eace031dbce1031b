"""From a GGUF file's metadata to the shape of its model.

A file is refused when it holds a tensor or a setting that this converter does not know, since leaving it out
would give another model than the file describes.
"""

from __future__ import annotations

import math
from typing import Final, TypeVar

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.family import FAMILIES, SUPPORTED, Family
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.layout import stored_shapes
from workers.onnx_worker.convert.shape import ModelShape, Rotary, Window

Value = TypeVar("Value")

_LISTED: Final = 4  # names of unknown tensors that a message holds at most
_LLAMA3_FACTORS: Final = "rope_freqs.weight"
_SHORT_FACTORS: Final = "rope_factors_short.weight"
_GEMMA3_27B_LAYERS: Final = 62
"""The one Gemma 3 that scales attention by the width of the stream over the heads and not by a head's."""


def read_shape(file: GgufFile) -> ModelShape:
    """Read the model's sizes from its metadata and check every tensor of the file against them.

    Raises:
        UnsupportedModel: It is of another family, or has parts that the graph would leave out.
    """
    architecture = file.require("general.architecture", str)
    if architecture not in FAMILIES:
        message = f"{file.path.name} has architecture {architecture!r}, which can't be converted; {SUPPORTED}"
        raise UnsupportedModel(message)
    shape = _Reader(file, FAMILIES[architecture]).shape()
    _check_shape(file, shape)
    _check_tensors(file, shape)
    return shape


class _Reader:
    """The settings of one file, named without the family's prefix."""

    def __init__(self, file: GgufFile, family: Family) -> None:
        self._file = file
        self._family = family
        self._check_settings()

    def shape(self) -> ModelShape:
        hidden, heads = self._count("embedding_length"), self._count("attention.head_count")
        if min(hidden, heads) < 1:
            message = f"{self._file.path.name}: embedding_length and attention.head_count must be positive"
            raise UnsupportedModel(message)
        layers = self._count("block_count")
        rotary = self._rotary()
        return ModelShape(
            family=self._family,
            layers=layers,
            hidden=hidden,
            feed_forward=self._count("feed_forward_length"),
            heads=heads,
            kv_heads=self._count("attention.head_count_kv", heads),
            head_dim=self._count("attention.key_length", hidden // heads),
            vocab=self._file.shape("token_embd.weight")[0],
            context=self._context(rotary),
            rms_epsilon=self._number("attention.layer_norm_rms_epsilon"),
            rotary=rotary,
            window=self._window(rotary),
            attention_scale=self._attention_scale(layers, hidden, heads),
            tied="output.weight" not in self._file.tensor_names,
        )

    def _context(self, rotary: Rotary) -> int:
        """LongRoPE's two sets of factors can't be mixed in one cache: contexts are the short ones'."""
        context = self._count("context_length")
        if rotary.factors == _SHORT_FACTORS:
            return min(context, self._count("rope.scaling.original_context_length", context))
        return context

    def _rotary(self) -> Rotary:
        base = self._number("rope.freq_base", 10000.0)
        names = self._file.tensor_names
        if self._family.long_context_factors:
            magnitude = self._number("rope.scaling.attn_factor", 1.0)
            factors = _SHORT_FACTORS if _SHORT_FACTORS in names else None
            return Rotary(base=base, factors=factors, magnitude=magnitude)
        scaling = self._get("rope.scaling.type", str) or "none"
        if scaling == "linear":
            return Rotary(base=base, stretch=self._number("rope.scaling.factor"))
        return Rotary(base=base, factors=_LLAMA3_FACTORS if _LLAMA3_FACTORS in names else None)

    def _window(self, rotary: Rotary) -> Window | None:
        tokens = self._count("attention.sliding_window", 0)
        if not 0 < tokens < self._count("context_length"):
            return None
        local = self._family.local_rope_base
        if local is not None:
            rotary = Rotary(base=self._number("rope.freq_base_swa", local))
        period = self._count("attention.sliding_window_pattern", self._family.window_period)
        return Window(tokens=tokens, period=period, rotary=rotary)

    def _attention_scale(self, layers: int, hidden: int, heads: int) -> float | None:
        if self._family.name == "gemma3" and layers == _GEMMA3_27B_LAYERS:
            return 1 / math.sqrt(hidden / heads)
        return None

    def _check_settings(self) -> None:
        prefix, name = f"{self._family.name}.", self._file.path.name
        settings = [key.removeprefix(prefix) for key in self._file.keys if key.startswith(prefix)]
        if unknown := [prefix + key for key in settings if key not in self._family.settings]:
            message = f"{name} has settings that can't be converted: {', '.join(unknown)}; {SUPPORTED}"
            raise UnsupportedModel(message)
        if experts := self._get("expert_count", int):
            message = f"{name} is a mixture of {experts} experts, which can't be converted; {SUPPORTED}"
            raise UnsupportedModel(message)
        scaling = self._get("rope.scaling.type", str) or "none"
        known = ("none", "longrope") if self._family.long_context_factors else ("none", "linear")
        if scaling not in known:
            message = (
                f"{name} scales its rotary embedding by {scaling!r}, which can't be converted; supported are "
                f"{' and '.join(known)}, and Llama 3's frequency factors (rope_freqs.weight)"
            )
            raise UnsupportedModel(message)

    def _get(self, key: str, kind: type[Value]) -> Value | None:
        return self._file.get(f"{self._family.name}.{key}", kind)

    def _count(self, key: str, default: int | None = None) -> int:
        value = self._get(key, int)
        if value is None:
            value = default
        return self._file.require(f"{self._family.name}.{key}", int) if value is None else value

    def _number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, float)
        if value is None:
            value = default
        return self._file.require(f"{self._family.name}.{key}", float) if value is None else value


def _check_shape(file: GgufFile, shape: ModelShape) -> None:
    prefix = shape.family.name
    sizes = (shape.layers, shape.feed_forward, shape.kv_heads, shape.head_dim, shape.vocab, shape.context)
    value_length = file.get(f"{prefix}.attention.value_length", int) or shape.head_dim
    rotary = file.get(f"{prefix}.rope.dimension_count", int) or shape.head_dim
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


def _check_tensors(file: GgufFile, shape: ModelShape) -> None:
    expected = stored_shapes(shape)
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
