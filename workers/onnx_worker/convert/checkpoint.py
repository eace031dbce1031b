"""A model file's tensors in the form that the graph builder knows, whatever the family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert import rotary
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.layout import part, tensor_shapes
from workers.onnx_worker.convert.shape import ModelShape


class Checkpoint:
    """The tensors of one file; a :class:`~workers.onnx_worker.convert.tensors.Tensors`.

    Fused tensors are taken apart, and rows of queries and keys stand in the order for rotation by halves.

    Args:
        file: The file.
        shape: Its sizes.
    """

    def __init__(self, file: GgufFile, shape: ModelShape) -> None:
        self._file = file
        self._shape = shape
        self._shapes = tensor_shapes(shape)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name``, rows (outputs) first."""
        return self._shapes[name]

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """Return tensor ``name`` as float32 in its :meth:`shape`."""
        stored = part(self._shape, name)
        rows = self._file.floats(stored.tensor, stored.rows)
        heads = {"attn_q": self._shape.heads, "attn_k": self._shape.kv_heads}
        match name.split("."):
            case [_, _, "attn_q" | "attn_k" as tensor, _] if self._shape.family.pairs_adjacent:
                return rows[rotary.half_split_order(heads[tensor], self._shape.head_dim)]
        return rows
