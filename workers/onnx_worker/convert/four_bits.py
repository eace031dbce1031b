"""4-bit weights in blocks of 32, with minima (:mod:`~workers.onnx_worker.convert.nibbles`).

The table in which tokens are looked up has 8 bits: of it only the rows of a prompt are ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from workers.onnx_worker.convert import blocks, nibbles
from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.precision import EMBEDDING, HEAD, LOGITS
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors

_SENSITIVE: Final = ("attn_q", "ffn_down")
"""What the first part of a product that keeps 8 bits is called: those that make queries, keys and values, on
which attention as a whole depends, and those whose inputs have outliers."""


class FourBits:
    """A :class:`~workers.onnx_worker.convert.precision.Precision`; all products have 4 bits."""

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
        return nibbles.multiply(nodes, name, states, name, parts)

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        self._table = table
        self._stored = blocks.store_table(nodes, EMBEDDING, table)
        return blocks.look_up(nodes, EMBEDDING, ids, self._stored)

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply by a matrix of its own, which is the embedding once more where the two are tied."""
        return nibbles.multiply(nodes, LOGITS, states, HEAD, [separate or self._table])


class MixedBits(FourBits):
    """Like :class:`FourBits`, but the head and the most sensitive matrices have 8 bits."""

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        if any(f".{tensor}." in parts[0].name for tensor in _SENSITIVE):
            return blocks.multiply(nodes, name, states, blocks.store(nodes, name, *parts))
        return super().linear(nodes, name, states, parts)

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply by the embedding's own blocks, or a matrix of its own."""
        if separate is None:
            matrix = blocks.as_factor(nodes, self._stored)
        else:
            matrix = blocks.store(nodes, HEAD, separate)
        return blocks.multiply(nodes, LOGITS, states, matrix)
