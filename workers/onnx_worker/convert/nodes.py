"""The nodes of a graph under construction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from workers.onnx_worker.convert.weights import WeightFile

CONTRIB: Final = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""

_CONTRIB_OPERATORS: Final = frozenset({
    "FastGelu", "GatherBlockQuantized", "GroupQueryAttention", "MatMulIntegerToFloat", "MatMulNBits",
    "MultiHeadAttention",
    "QuickGelu", "SkipSimplifiedLayerNormalization",
})  # fmt: skip


class Nodes:
    """A list of nodes that grows, and the weights they refer to."""

    def __init__(self, weights: WeightFile) -> None:
        self.weights = weights
        self.all: list[NodeProto] = []

    def add(self, operator: str, output: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node with one result and return that result's name, ``output``."""
        self.add_many(operator, [output], inputs, **attributes)
        return output

    def add_many(self, operator: str, outputs: list[str], inputs: list[str], **attributes: Any) -> None:
        """Append a node with several results; ``""`` leaves a result or an input out."""
        domain = CONTRIB if operator in _CONTRIB_OPERATORS else ""
        node = helper.make_node(
            operator, inputs, outputs, name=f"{outputs[0]}/{operator}", domain=domain, **attributes
        )
        self.all.append(node)

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Return the name of a constant, which is stored when it is first asked for."""
        return name if name in self.weights else self.weights.add(name, np.asarray(value, dtype))
