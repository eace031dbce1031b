"""How weights are held and multiplied: what the builder of a graph asks of a precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors

HEAD: Final = "lm_head"
EMBEDDING: Final = "token_embedding"
LOGITS: Final = "logits"


class Precision(Protocol):
    """Says which model is built, and adds the nodes that involve a weight matrix of it.

    Every method that adds nodes returns the name of its result.
    """

    def source(
        self, checkpoint: Tensors, shape: ModelShape, calibration: Calibration
    ) -> tuple[Tensors, ModelShape]:
        """Return the model to build: that of the file, or an equivalent one that can be held better."""
        ...

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """Multiply float32 ``[…, columns]`` by the transposed ``parts``: ``[…, rows of all parts]``."""
        ...

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """Look up int64 ``[batch, sequence]`` in ``table``: float32 ``[batch, sequence, columns]``."""
        ...

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply float32 ``[rows, columns]`` by ``separate``, the embedding if ``None``: ``logits``."""
        ...
