"""A decoder cut behind every few layers, so that a long run can pause there.

A stage's inputs and outputs are those of the whole graph that its layers use. What goes into its first layer
(:func:`~workers.onnx_worker.convert.graph.layer_input`) is an input too, and an output of the stage before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

from workers.onnx_worker.convert.graph import layer_input
from workers.onnx_worker.convert.precision import LOGITS
from workers.onnx_worker.convert.shape import ModelShape
from workers.runtime.artefact import PACKED_STAGE

_STAGES: Final = 10
"""Stages at most. More would only be finer than what a step's own time varies by."""


def stages(model: ModelProto, shape: ModelShape) -> Iterator[ModelProto]:
    """The stages in their order, of as many layers each, but for the last; none if there is one layer only.

    Args:
        model: The whole graph, with the names that :class:`~workers.onnx_worker.convert.graph.DecoderGraph`
            gives.
        shape: Its sizes.
    """
    layers = -(-shape.layers // _STAGES)
    cuts = [layer_input(layer) for layer in range(layers, shape.layers, layers)]
    if not cuts:
        return
    between = {name: _states(name, shape) for cut in cuts for name in cut}
    for nodes in _cut(model.graph.node, [states for states, _ in cuts]):
        yield _stage(model, nodes, between)


def stage_name(number: int, stage: ModelProto) -> str:
    """File name of a stage, counted from 0; says whether its weights must be laid out for the processor.

    Without that, ONNX Runtime makes floats of all blocks of a matrix for each product. A layer's cost
    little beside a prompt; for the head of a large vocabulary it is most of a second and a gigabyte.
    """
    head = any(node.op_type == "MatMulNBits" and LOGITS in node.output for node in stage.graph.node)
    return f"stage-{number:02}{PACKED_STAGE if head else '.onnx'}"


def _cut(nodes: Sequence[NodeProto], behind: Sequence[str]) -> Iterator[list[NodeProto]]:
    """Parts that end with the nodes which produce the names given, and the rest."""
    part = []
    for node in nodes:
        part.append(node)
        if set(behind) & set(node.output):
            yield part
            part = []
    yield part


def _stage(model: ModelProto, nodes: list[NodeProto], between: dict[str, ValueInfoProto]) -> ModelProto:
    made = {name for node in nodes for name in node.output}
    needed = {name for node in nodes for name in node.input} - made
    graph = model.graph
    # What is made between two stages goes out of one and into the next, and nowhere else.
    inputs = [value for value in (*graph.input, *between.values()) if value.name in needed]
    outputs = [value for value in (*graph.output, *between.values()) if value.name in made]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    part = helper.make_graph(nodes, graph.name, inputs, outputs, initializer=weights)
    return helper.make_model(
        part,
        producer_name=model.producer_name,
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
    )


def _states(name: str, shape: ModelShape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", "sequence", shape.hidden))
