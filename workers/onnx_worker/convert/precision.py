"""How weights are held and multiplied: what the builder of a graph asks of a precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy.typing as npt

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

    @property
    def turn(self) -> npt.NDArray[Any] | None:
        """How the residual stream of the built model is turned, float64 ``[hidden, hidden]``, from the right.

        ``None`` if it is that of the file. Known once :meth:`source` has been called.
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
