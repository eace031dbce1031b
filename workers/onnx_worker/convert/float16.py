"""float16 weights that are computed with in float32: half the bytes on the disk, and nearly nothing lost.

ONNX Runtime has no products of float16 on the CPU, so weights become float32 when the model is loaded, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.precision import EMBEDDING, HEAD, LOGITS
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors


class Float16:
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
        columns = np.concatenate([_halved(part) for part in parts]).T
        return nodes.add("MatMul", name, [states, _floats(nodes, f"{name}.weight", columns)])

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """Look up and turn into float32 what was found."""
        weight = nodes.weights.add(f"{EMBEDDING}.weight", _halved(table))
        found = nodes.add("Gather", f"{EMBEDDING}.halves", [weight, ids], axis=0)
        return nodes.add("Cast", EMBEDDING, [found], to=TensorProto.FLOAT)

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply by the embedding or a matrix of its own: ``Gemm`` transposes as it multiplies."""
        if separate is None:
            whole = nodes.add("Cast", f"{HEAD}.whole", [f"{EMBEDDING}.weight"], to=TensorProto.FLOAT)
        else:
            whole = _floats(nodes, f"{HEAD}.weight", _halved(separate))
        return nodes.add("Gemm", LOGITS, [states, whole], transB=1)


def _halved(matrix: Matrix) -> npt.NDArray[np.float16]:
    floats = matrix.floats()
    with np.errstate(over="ignore"):
        halves = floats.astype(np.float16)
    if not np.isfinite(halves).all():
        raise UnsupportedModel(f"{matrix.name} has values that float16 can't hold; fp32 can")
    return halves


def _floats(nodes: Nodes, name: str, halves: npt.NDArray[np.float16]) -> str:
    return nodes.add("Cast", f"{name}.whole", [nodes.weights.add(name, halves)], to=TensorProto.FLOAT)
