"""8-bit weights in blocks of 32, for models whose residual stream can't be rotated.

Where what goes into the stream is normalised first, with weights (Gemma), no rotation passes through, and one
scale for a whole row of activations would lose what isn't an outlier. ONNX Runtime's ``MatMulNBits`` has a
scale for each block of 32 weights and of 32 activations. See docs/decisions/0014-blocks-without-rotation.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workers.onnx_worker.convert import blocks
from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.precision import EMBEDDING, HEAD, LOGITS
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors


class Int8Blocks:
    """See the module; a :class:`~workers.onnx_worker.convert.precision.Precision`."""

    turn: Final = None
    """Nothing is turned; see :class:`~workers.onnx_worker.convert.precision.Precision`."""

    def source(
        self,
        checkpoint: Tensors,
        shape: ModelShape,
        calibration: Calibration,  # noqa: ARG002  # a protocol's
    ) -> tuple[Tensors, ModelShape]:
        """Return the file's own model."""
        return checkpoint, shape

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        return blocks.multiply(nodes, name, states, blocks.store(nodes, name, *parts))

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        self._table = blocks.store_table(nodes, EMBEDDING, table)
        return blocks.look_up(nodes, EMBEDDING, ids, self._table)

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply by the embedding's own blocks, or a matrix of its own."""
        if separate is None:
            matrix = blocks.as_factor(nodes, self._table)
        else:
            matrix = blocks.store(nodes, HEAD, separate)
        return blocks.multiply(nodes, LOGITS, states, matrix)
