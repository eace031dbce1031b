"""How much memory an engine of this backend takes, told from the files that it will open.

Figures of torch 2.13 and transformers 5.24 with CPython 3.11 on Linux. A model that has been loaded once is
predicted by its own measurement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.catalogue import Artefact
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.footprint import MEBIBYTE, Needs
from workers.runtime.vision import VisionDescription

_PROCESS: Final = 340 * MEBIBYTE
"""An engine process with its libraries and no model."""
_TOKENIZER: Final = 23
"""Bytes of memory for each of ``tokenizer.json``."""
_FLOAT: Final = 4
_ACTIVATIONS: Final = 8
"""Arrays as wide as the residual stream, or as the layer between, that a step has at the same time."""
_SEEN: Final = 5
"""Arrays as wide as a layer of the eyes, for each patch of a picture, at the same time: 4.0 measured with
Qwen2-VL's, 4.7 with Qwen2.5-VL's."""

_WEIGHT: Final = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "int4": 0.5}
"""Bytes a weight; matrices have nearly all of them."""

_CONVERTER: Final = 700 * MEBIBYTE
"""A converting process with its libraries and no model."""
_CONVERTING: Final = {"gguf": 16, "safetensors": 3}
"""Bytes for each byte of the source artefact while it is converted: a GGUF file is dequantised as a whole;
of safetensors, what is mapped, what it becomes, and a file of it that is being written."""


def predict(folder: Path, description: ModelDescription, config: EngineConfig) -> Needs:
    """What an engine will take.

    Weights are mapped, and count as far as they are touched, which is all of them.

    Args:
        folder: The prepared artefact.
        description: The model.
        config: Slots, lengths and chunks.
    """
    weights = sum(_size(file) for file in folder.glob("weights-*.safetensors"))
    logits = config.slots * description.vocab_size * _FLOAT
    loaded = _PROCESS + _TOKENIZER * _size(folder / TOKENIZER_FILE) + weights + logits
    return Needs(loaded, _working(description, config))


def expect(parameters: int, profile: str) -> int:
    """Bytes that an engine takes at least, from the number of weights alone."""
    return _PROCESS + int(parameters * _WEIGHT[profile])


def converting(source: Artefact, profile: str) -> int:  # noqa: ARG001  # the source is what takes memory
    """Bytes that making an artefact takes; what the catalogue doesn't know the size of counts as small."""
    return _CONVERTER + _CONVERTING.get(source.format, 4) * (source.size or 0)


def _working(description: ModelDescription, config: EngineConfig) -> int:
    """The mask and the activations of the longest chunk, or those of the largest picture in its own shape."""
    length = min(config.max_length or description.context_length, description.context_length)
    chunk = min(max(config.prefill_chunk, config.shared_prefill_chunk), length)
    heads = max(description.hidden_size // description.head_dim, description.kv_heads)
    keys_values = 2 * heads * description.head_dim * length
    text = chunk * (length + _ACTIVATIONS * 4 * description.hidden_size) + keys_values
    return _FLOAT * max(text, _seeing(description.vision))


def _seeing(vision: VisionDescription | None) -> int:
    """Elements that the eyes have at the same time for the largest picture in its own shape."""
    if vision is None or not vision.patch:
        return 0
    return _SEEN * (vision.longest_edge // vision.patch) ** 2 * vision.patch_width


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
