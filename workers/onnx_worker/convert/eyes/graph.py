"""The eyes as an ONNX graph.

Input and output::

    pixel_values    float32 [1, channels, tile, tile]   one tile, normalised
    image_features  float32 [rows, features]            what stands in the place of embeddings

One tile a run, so that memory is bounded whatever a picture is cut into: a tile's patches attend to each
other and to no others. The attention is one operator that never holds all scores.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnx import ModelProto, TensorProto, helper

from workers.onnx_worker.convert.eyes.precision import EyesPrecision, Reads
from workers.onnx_worker.convert.eyes.shape import EyesShape
from workers.onnx_worker.convert.graph import IR_VERSION, OPSET
from workers.onnx_worker.convert.nodes import CONTRIB, Nodes
from workers.onnx_worker.convert.weights import WeightFile

PIXELS: Final = "pixel_values"
FEATURES: Final = "image_features"


class EyesGraph:
    """Builds the graph, layer by layer.

    Args:
        shape: The eyes' sizes.
        precision: Their weights, and how they are held.
        weights: Where they go.
    """

    def __init__(self, shape: EyesShape, precision: EyesPrecision, weights: WeightFile) -> None:
        self._shape = shape
        self._precision = precision
        self._nodes = Nodes(weights)

    def build(self) -> ModelProto:
        """Write all weights and return the graph, which refers to them by the name of the weight file."""
        residual = self._patches()
        for layer in range(self._shape.layers):
            residual = self._layer(f"layers.{layer}", residual)
        self._connect(self._norm("norm", residual))
        return self._model()

    def _patches(self) -> str:
        """Each patch's pixels in a row, multiplied, and its position."""
        nodes, shape = self._nodes, self._shape
        side, patch = shape.side, shape.patch
        cut = nodes.constant("patches.cut", [shape.channels, side, patch, side, patch], np.int64)
        rows = nodes.constant("patches.rows", [1, shape.patches, shape.channels * patch * patch], np.int64)
        squares = nodes.add("Reshape", "pixels.cut", [PIXELS, cut])
        ordered = nodes.add("Transpose", "pixels.ordered", [squares], perm=[1, 3, 0, 2, 4])
        patches = nodes.add("Reshape", "pixels.rows", [ordered, rows])
        seen = self._precision.linear(nodes, "patch", patches, Reads.PIXELS)
        return nodes.add(
            "Add", "patches", [seen, nodes.weights.add("positions", self._precision.tower.positions())]
        )

    def _layer(self, prefix: str, residual: str) -> str:
        nodes, linear = self._nodes, self._precision.linear
        states = self._norm(f"{prefix}.norm1", residual)
        heads = [linear(nodes, f"{prefix}.{part}", states, Reads.NORM) for part in "qkv"]
        attended = nodes.add("MultiHeadAttention", f"{prefix}.attended", heads, num_heads=self._shape.heads)
        out = linear(nodes, f"{prefix}.out", attended, Reads.ATTENTION)
        residual = nodes.add("Add", f"{prefix}.between", [residual, out])
        states = self._norm(f"{prefix}.norm2", residual)
        up = linear(nodes, f"{prefix}.up", states, Reads.NORM)
        active = nodes.add("FastGelu", f"{prefix}.active", [up])
        down = linear(nodes, f"{prefix}.down", active, Reads.ACTIVATION)
        return nodes.add("Add", f"{prefix}.behind", [residual, down])

    def _connect(self, states: str) -> None:
        """Squares of neighbouring patches as one row each, multiplied."""
        nodes, shape = self._nodes, self._shape
        side, scale = shape.side // shape.scale, shape.scale
        cut = nodes.constant("squares.cut", [side, scale, side, scale, shape.hidden], np.int64)
        rows = nodes.constant("squares.rows", [1, shape.rows, scale * scale * shape.hidden], np.int64)
        squares = nodes.add("Reshape", "squares", [states, cut])
        ordered = nodes.add("Transpose", "squares.ordered", [squares], perm=[0, 2, 1, 3, 4])
        joined = nodes.add("Reshape", "squares.joined", [ordered, rows])
        features = self._precision.linear(nodes, "connector", joined, Reads.NORM)
        whole = nodes.constant("features.shape", [shape.rows, shape.features], np.int64)
        nodes.add("Reshape", FEATURES, [features, whole])

    def _norm(self, name: str, states: str) -> str:
        return self._precision.norm(self._nodes, name, states, self._shape.epsilon)

    def _model(self) -> ModelProto:
        shape = self._shape
        pixels = (1, shape.channels, shape.tile, shape.tile)
        graph = helper.make_graph(
            self._nodes.all,
            "eyes",
            [helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, pixels)],
            [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, (shape.rows, shape.features))],
            initializer=self._nodes.weights.initializers,
        )
        return helper.make_model(
            graph,
            producer_name="diplex",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
        )
