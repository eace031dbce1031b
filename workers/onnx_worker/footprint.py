"""How much memory an engine of this backend takes, told from the files that it will open.

Figures of ONNX Runtime 1.30 to 1.32 and CPython 3.11 to 3.13 on Linux; ``docs/memory.md`` compares
predictions with what was measured. A model that has been loaded once is predicted by its own measurement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from workers.onnx_worker.compiled.availability import can_be_compiled
from workers.onnx_worker.compiled.shapes import layer_matrices
from workers.onnx_worker.compiled.tensors import Tensors, sizes_of
from workers.onnx_worker.published.backend import LOGIT_BYTES, RUN_BYTES
from workers.onnx_worker.published.graphs import GRAPHS_FILE, Graphs
from workers.onnx_worker.published.selection import data_files
from workers.runtime.artefact import (
    EYES_WEIGHTS_FILE,
    MODEL_FILE,
    PACKED_STAGE,
    STAGE_FILES,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    ModelDescription,
)
from workers.runtime.catalogue import Artefact, SourceFolder
from workers.runtime.engine.budget import TOGETHER
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.footprint import MEBIBYTE, Needs

_PROCESS: Final = 72 * MEBIBYTE
"""An engine process with its libraries and no model."""
_COMPILED: Final = 50 * MEBIBYTE
"""An engine process of compiled functions, which does without ONNX Runtime, and no model."""
_TOKENIZER: Final = 23
"""Bytes of memory for each of ``tokenizer.json``."""
_SESSION: Final = 5 * MEBIBYTE
"""Sessions, arenas and bindings, whatever the weights."""
_FLOAT: Final = 4
_ELEMENTS: Final = {"fp32": (4.0, 4.0), "fp16": (2.0, 4.0), "q4": (1.0, 0.66)}
"""Bytes for each weight of the table in which tokens are looked up, and of the head, where not one each."""
_HEAD: Final = b"lm_head"
"""In the graph if the head has a matrix of its own."""

_COPIES: Final = 3
"""Of keys and values in a run of published graphs."""

_EYES: Final = 420
"""Bytes for each pixel of a tile while it is encoded, as seen with SmolVLM's tower."""

_CONVERTER: Final = 110 * MEBIBYTE
"""A converting process with its libraries and no model."""
_CONVERTING: Final = {"int8": 13, "fp32": 5, "fp16": 5, "q4": 5, "q4_mixed": 5}
"""Bytes for each byte of a GGUF file while it is converted: the whole model in float32 and what the rotation
needs beside, or a few matrices of it."""
_CONVERTING_FOLDER: Final = {"int8": 5, "fp32": 2, "fp16": 2, "q4": 2, "q4_mixed": 2}
"""The same for folders, whose weights have two bytes and not two thirds of one."""


def predict(folder: Path, description: ModelDescription, config: EngineConfig) -> Needs:
    """What an engine will take.

    The weights are copied as they are laid out for the processor. The embedding is read from the mapped file,
    row by row, so it hardly counts; unless the head uses it too, which copies it and touches all of it, and
    once more in a stage that lays its weights out.

    Args:
        folder: The prepared artefact.
        description: The model.
        config: Slots, lengths and chunks.
    """
    if (folder / GRAPHS_FILE).is_file():
        return _predict_published(folder, description, config)
    if can_be_compiled(folder):
        return _predict_compiled(folder, description, config)
    weights = _size(folder / WEIGHTS_FILE)
    embedding = description.vocab_size * description.hidden_size
    table, head = _ELEMENTS.get(description.precision, (1.0, 1.0))
    copies = len(list(folder.glob(f"*{PACKED_STAGE}")))
    if _HEAD in (folder / MODEL_FILE).read_bytes():
        mapped = int(embedding * (copies * head - table))
    else:
        mapped = int(embedding * table * (1 + copies))
    if description.precision == "fp16":
        mapped += weights  # all of it becomes float32
    logits = config.slots * description.vocab_size * _FLOAT
    loaded = _PROCESS + _TOKENIZER * _size(folder / TOKENIZER_FILE) + _SESSION + logits
    eyes = _size(folder / EYES_WEIGHTS_FILE) + _SESSION if description.vision is not None else 0
    working = _working(folder, weights, description, config) + _looking(description)
    return Needs(loaded + max(weights + mapped, 0) + eyes, working)


def expect(parameters: int, profile: str) -> int:
    """Bytes that an engine takes at least, from the number of weights alone."""
    return _PROCESS + parameters * (_FLOAT if profile == "fp32" else 1)


def converting(source: Artefact, profile: str) -> int:
    """Bytes that making an artefact takes; what the catalogue doesn't know the size of counts as small."""
    factors = _CONVERTING_FOLDER if isinstance(source, SourceFolder) else _CONVERTING
    return _CONVERTER + factors.get(profile, max(factors.values())) * (source.size or 0)


def _predict_compiled(folder: Path, description: ModelDescription, config: EngineConfig) -> Needs:
    """What the backend of compiled functions will take.

    Weights are copied but for the table in which tokens are looked up. A run's working memory is so much a
    token, for all that are computed together: whole prompts up to twice the longest piece, and a piece in
    stages besides.
    """
    sizes = sizes_of(Tensors(folder))
    table = description.vocab_size * description.hidden_size
    logits = config.slots * description.vocab_size * _FLOAT
    process = _COMPILED + _TOKENIZER * _size(folder / TOKENIZER_FILE)
    eyes = _size(folder / EYES_WEIGHTS_FILE) + _SESSION if description.vision is not None else 0
    length = min(config.max_length or description.context_length, description.context_length)
    piece = min(max(config.prefill_chunk, config.shared_prefill_chunk), length)
    outputs = sum(outputs for outputs, _ in layer_matrices(sizes))
    token = _FLOAT * (outputs + sizes.hidden + sizes.feed_forward)
    loaded = process + max(_size(folder / WEIGHTS_FILE) - table, 0) + logits + eyes
    return Needs(loaded, (TOGETHER + 1) * piece * token + _looking(description))


def _predict_published(folder: Path, description: ModelDescription, config: EngineConfig) -> Needs:
    """What the backend for published graphs will take.

    Weights lie in memory once, laid out for the processor. A run's keys and values are there three times: as
    its past, as its present, and as what becomes of them inside.
    """
    graphs = Graphs.load(folder)
    sessions = [graph for graph in (graphs.decoder, graphs.embedding, graphs.vision) if graph is not None]
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    weights = sum(_size(folder / file) for graph in sessions for file in (graph, *data_files(files, graph)))
    tokenizer = _TOKENIZER * _size(folder / TOKENIZER_FILE)
    loaded = _PROCESS + tokenizer + len(sessions) * _SESSION + weights
    length = min(config.max_length or description.context_length, description.context_length)
    run = max(RUN_BYTES, length * description.kv_bytes_per_token)
    chunk = min(max(config.prefill_chunk, config.shared_prefill_chunk), length)
    heads = max(description.hidden_size // description.head_dim, description.kv_heads)
    working = _COPIES * run + 2 * LOGIT_BYTES + chunk * length * heads * _FLOAT
    return Needs(loaded, working + _looking(description))


def _looking(description: ModelDescription) -> int:
    """What a tile's encoding takes."""
    return 0 if description.vision is None else _EYES * description.vision.tile_size**2


def _working(folder: Path, weights: int, description: ModelDescription, config: EngineConfig) -> int:
    """Attention scores of the longest chunk, and the weights that the stages map again.

    Every session keeps the largest block that it ever needed until memory is trimmed: the whole graph's one
    and that of each stage.
    """
    length = min(config.max_length or description.context_length, description.context_length)
    chunk = min(max(config.prefill_chunk, config.shared_prefill_chunk), length)
    heads = max(description.hidden_size // description.head_dim, description.kv_heads)
    stages = len(list(folder.glob(STAGE_FILES)))
    return (1 + stages) * chunk * length * heads * _FLOAT + (weights if stages else 0)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
