"""A GGUF file as the converter takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.checkpoint import Checkpoint
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.metadata import read_shape
from workers.onnx_worker.convert.published import kv_bytes
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tokenizer import adds_bos, build_tokenizer
from workers.runtime.artefact import ModelDescription

_BEGIN_KEY: Final = "tokenizer.ggml.bos_token_id"
_END_KEYS: Final = (
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
)
_END_OF_TURN: Final = "<|im_end|>"  # ChatML's, whichever token the file names


class GgufModel:
    """A :class:`~workers.onnx_worker.convert.published.Published`.

    Args:
        path: The file.

    Raises:
        UnsupportedModel: The file or its model can't be converted; the message says what can.
        OSError: It can't be read.
    """

    eyes: Final = None
    """Such files hold text models."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = GgufFile(path)
        self.shape = read_shape(self._file)
        self.tokenizer = build_tokenizer(self._file)
        _check_vocabulary(self._file, self.shape, self.tokenizer)

    @property
    def tensors(self) -> Checkpoint:
        """See :class:`~workers.onnx_worker.convert.published.Published`."""
        return Checkpoint(self._file, self.shape)

    def describe(self, precision: str) -> ModelDescription:
        """See :class:`~workers.onnx_worker.convert.published.Published`."""
        file, shape, tokenizer = self._file, self.shape, self.tokenizer
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
            kv_bytes_per_token=kv_bytes(shape),
        )


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


def _end_tokens(file: GgufFile, tokenizer: Tokenizer) -> tuple[int, ...]:
    named = [file.get(key, int) for key in _END_KEYS]
    chat = tokenizer.token_to_id(_END_OF_TURN)
    return tuple(dict.fromkeys(token for token in (*named, chat) if token is not None))
