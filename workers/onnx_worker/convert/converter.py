"""From a model as it was published to a prepared artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel
from workers.onnx_worker.compiled.tensors import write_tensors
from workers.onnx_worker.convert.calibration import Calibration, calibration_tokens
from workers.onnx_worker.convert.checkpoint_model import CheckpointModel
from workers.onnx_worker.convert.eyes.converter import convert_eyes
from workers.onnx_worker.convert.float16 import Float16
from workers.onnx_worker.convert.float32 import Float32
from workers.onnx_worker.convert.four_bits import FourBits, MixedBits
from workers.onnx_worker.convert.gguf_model import GgufModel
from workers.onnx_worker.convert.graph import DecoderGraph
from workers.onnx_worker.convert.int8_blocks import Int8Blocks
from workers.onnx_worker.convert.int8_rows import Int8Rows
from workers.onnx_worker.convert.layout import tensor_shapes
from workers.onnx_worker.convert.precision import Precision
from workers.onnx_worker.convert.published import Published
from workers.onnx_worker.convert.row_tensors import constants, has_functions, locations
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.stages import stage_name, stages
from workers.onnx_worker.convert.weights import WeightFile
from workers.runtime.artefact import MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelDescription
from workers.runtime.progress import Phase, Progress, Report

PRECISIONS: Final = ("int8", "fp32", "fp16", "q4", "q4_mixed")
_UNSTAGED: Final = frozenset({"fp16"})
"""Each stage would have float32 copies of its weights."""


def convert_gguf(source: Path, target: Path, *, precision: str, report: Report) -> ModelDescription:
    """Convert a GGUF file into a prepared artefact, the same bytes for the same file and library versions.

    Args:
        source: The GGUF file.
        target: An existing, empty folder.
        precision: One of ``PRECISIONS``.
        report: Told of every tensor, in tensors.

    Returns:
        What was written as ``model.json``, the last of the files.

    Raises:
        UnsupportedModel: The file, its model or the precision can't be converted; the message says what can.
        OSError: A file can't be read or written.
    """
    _check_precision(precision)
    return _convert(GgufModel(source), target, precision, report)


def convert_checkpoint(source: Path, target: Path, *, precision: str, report: Report) -> ModelDescription:
    """Convert a folder of safetensors; like :func:`convert_gguf` in everything else."""
    _check_precision(precision)
    return _convert(CheckpointModel(source), target, precision, report)


def _convert(model: Published, target: Path, precision: str, report: Report) -> ModelDescription:
    shape = model.shape
    matrices = _find_precision(precision, shape)
    model.tokenizer.save(str(target / TOKENIZER_FILE), pretty=False)
    description = model.describe(precision)
    text = calibration_tokens(model.tokenizer, description.begin, shape.context)
    tensors, built = matrices.source(model.tensors, shape, Calibration(model.path, text))
    with WeightFile(target / WEIGHTS_FILE) as weights:
        graph = DecoderGraph(tensors, built, matrices, weights, _counter(built, report)).build()
    (target / MODEL_FILE).write_bytes(graph.SerializeToString(deterministic=True))
    for number, stage in enumerate(stages(graph, built) if precision not in _UNSTAGED else ()):
        (target / stage_name(number, stage)).write_bytes(stage.SerializeToString(deterministic=True))
    if has_functions(matrices, built):
        write_tensors(target, constants(built), locations(graph))
    if model.eyes is not None:
        report(Progress(Phase.CONVERT, 1, 1, "the eyes"))
        convert_eyes(model.eyes, target, precision=precision, turn=matrices.turn)
    description.save(target)
    return description


def _check_precision(name: str) -> None:
    if name not in PRECISIONS:
        message = f"precision {name!r} is unknown; supported are {', '.join(PRECISIONS)}"
        raise UnsupportedModel(message)


def _find_precision(name: str, shape: ModelShape) -> Precision:
    match name:
        case "fp32":
            return Float32()
        case "fp16":
            return Float16()
        case "q4":
            return FourBits()
        case "q4_mixed":
            return MixedBits()
    return Int8Blocks() if shape.family.post_norms else Int8Rows()


def _counter(shape: ModelShape, report: Report) -> Callable[[str], None]:
    total, names = len(tensor_shapes(shape)), set[str]()

    def seen(name: str) -> None:
        names.add(name)
        report(Progress(Phase.CONVERT, len(names), total, name))

    return seen
