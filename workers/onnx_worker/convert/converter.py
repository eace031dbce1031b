"""From a GGUF file to a prepared artefact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.calibration import Calibration, calibration_tokens
from workers.onnx_worker.convert.checkpoint import Checkpoint
from workers.onnx_worker.convert.float32 import Float32
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.graph import DecoderGraph
from workers.onnx_worker.convert.int8_blocks import Int8Blocks
from workers.onnx_worker.convert.int8_rows import Int8Rows
from workers.onnx_worker.convert.layout import tensor_shapes
from workers.onnx_worker.convert.metadata import read_shape
from workers.onnx_worker.convert.precision import Precision
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.stages import stage_name, stages
from workers.onnx_worker.convert.tokenizer import adds_bos, build_tokenizer
from workers.onnx_worker.convert.weights import WeightFile
from workers.runtime.artefact import MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelDescription
from workers.runtime.progress import Phase, Progress, Report

PRECISIONS: Final = ("int8", "fp32")

_FLOAT32_BYTES: Final = 4
_BEGIN_KEY: Final = "tokenizer.ggml.bos_token_id"
_END_KEYS: Final = (
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
)
_END_OF_TURN: Final = "<|im_end|>"  # ChatML's, whichever token the file names


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
    file = GgufFile(source)
    shape = read_shape(file)
    matrices = _find_precision(precision, shape)
    tokenizer = build_tokenizer(file)
    _check_vocabulary(file, shape, tokenizer)
    tokenizer.save(str(target / TOKENIZER_FILE), pretty=False)
    description = _describe(file, shape, tokenizer, precision)
    text = calibration_tokens(tokenizer, description.begin, shape.context)
    tensors, built = matrices.source(Checkpoint(file, shape), shape, Calibration(source, text))
    with WeightFile(target / WEIGHTS_FILE) as weights:
        model = DecoderGraph(tensors, built, matrices, weights, _counter(built, report)).build()
    (target / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    for number, stage in enumerate(stages(model, built)):
        (target / stage_name(number, stage)).write_bytes(stage.SerializeToString(deterministic=True))
    description.save(target)
    return description


def _check_precision(name: str) -> None:
    if name not in PRECISIONS:
        message = f"precision {name!r} is unknown; supported are {', '.join(PRECISIONS)}"
        raise UnsupportedModel(message)


def _find_precision(name: str, shape: ModelShape) -> Precision:
    if name == "fp32":
        return Float32()
    return Int8Blocks() if shape.family.post_norms else Int8Rows()


def _check_vocabulary(file: GgufFile, shape: ModelShape, tokenizer: Tokenizer) -> None:
    known = tokenizer.get_vocab_size(with_added_tokens=True)
    if known > shape.vocab:
        message = f"{file.path.name}: {known} tokens, but an embedding for {shape.vocab}"
        raise UnsupportedModel(message)
    for key in (_BEGIN_KEY, *_END_KEYS):
        token = file.get(key, int)
        if token is not None and token >= known:
            message = f"{file.path.name}: {key} is {token}, but there are {known} tokens"
            raise UnsupportedModel(message)


def _counter(shape: ModelShape, report: Report) -> Callable[[str], None]:
    total, names = len(tensor_shapes(shape)), set[str]()

    def seen(name: str) -> None:
        names.add(name)
        report(Progress(Phase.CONVERT, len(names), total, name))

    return seen


def _describe(file: GgufFile, shape: ModelShape, tokenizer: Tokenizer, precision: str) -> ModelDescription:
    bos = file.get(_BEGIN_KEY, int)
    ends = _end_tokens(file, tokenizer)
    return ModelDescription(
        name=file.get("general.name", str) or file.path.stem,
        architecture=shape.family.name,
        precision=precision,
        vocab_size=shape.vocab,
        context_length=shape.context,
        layers=shape.layers,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        hidden_size=shape.hidden,
        bos_token_id=bos,
        eos_token_ids=ends,
        add_bos=bos is not None and adds_bos(file),
        bos_token=None if bos is None else tokenizer.id_to_token(bos),
        eos_token=tokenizer.id_to_token(ends[0]) if ends else None,
        chat_template=file.get("tokenizer.chat_template", str),
        kv_bytes_per_token=2 * shape.layers * shape.kv_heads * shape.head_dim * _FLOAT32_BYTES,
    )


def _end_tokens(file: GgufFile, tokenizer: Tokenizer) -> tuple[int, ...]:
    named = [file.get(key, int) for key in _END_KEYS]
    chat = tokenizer.token_to_id(_END_OF_TURN)
    return tuple(dict.fromkeys(token for token in (*named, chat) if token is not None))
