"""A model as it was published, whatever the format: what the converter needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from tokenizers import Tokenizer

from workers.onnx_worker.convert.eyes.converter import SourceEyes
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors
from workers.runtime.artefact import ModelDescription

_FLOAT32_BYTES: Final = 4


class Published(Protocol):
    """One model, checked and ready to be converted."""

    path: Path
    """The file or folder."""
    shape: ModelShape
    tokenizer: Tokenizer
    """Adds no token by itself."""

    @property
    def eyes(self) -> SourceEyes | None:
        """``None`` for a model that takes text only."""

    @property
    def tensors(self) -> Tensors:
        """Its tensors in the form that the graph builder knows."""

    def describe(self, precision: str) -> ModelDescription:
        """What an engine has to know once it is converted."""


def kv_bytes(shape: ModelShape) -> int:
    """Bytes of keys and values of a token, over all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * _FLOAT32_BYTES
