"""Plain float32, four times the bytes of int8: for comparing engines exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.precision import EMBEDDING, HEAD, LOGITS
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors


class Float32:
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
        columns = np.concatenate([part.floats() for part in parts]).T
        return nodes.add("MatMul", name, [states, nodes.weights.add(f"{name}.weight", columns)])

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        weight = nodes.weights.add(f"{EMBEDDING}.weight", table.floats())
        return nodes.add("Gather", EMBEDDING, [weight, ids], axis=0)

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply by the embedding or a matrix of its own: ``Gemm`` transposes as it multiplies."""
        name = EMBEDDING if separate is None else HEAD
        if separate is not None:
            nodes.weights.add(f"{name}.weight", separate.floats())
        return nodes.add("Gemm", LOGITS, [states, f"{name}.weight"], transB=1)
