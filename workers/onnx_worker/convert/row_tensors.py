"""What compiled functions have to know of a graph of integer rows: its sizes, and where its weights lie."""

from __future__ import annotations

from typing import Any

from onnx import ModelProto, TensorProto, helper, numpy_helper

from workers.onnx_worker.convert.family import Activation
from workers.onnx_worker.convert.int8_rows import Int8Rows
from workers.onnx_worker.convert.precision import Precision
from workers.onnx_worker.convert.shape import ModelShape


def has_functions(precision: Precision, shape: ModelShape) -> bool:
    """Whether :mod:`workers.onnx_worker.compiled` knows all that a model's family does."""
    family = shape.family
    return (
        isinstance(precision, Int8Rows)
        and family.activation is Activation.SILU
        and not family.post_norms
        and not family.embedding_scaled
    )


def constants(shape: ModelShape) -> dict[str, Any]:
    """Sizes and constants, as :class:`~workers.onnx_worker.compiled.tensors.Tensors` gives them."""
    windows = [shape.window_of(layer) for layer in range(shape.layers)]
    return {
        "layers": shape.layers,
        "hidden": shape.hidden,
        "feed_forward": shape.feed_forward,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab": shape.vocab,
        "rms_epsilon": shape.rms_epsilon,
        "attention_scale": shape.attention_scale,
        "windows": [0 if window is None else window.tokens for window in windows],
    }


def locations(graph: ModelProto) -> dict[str, dict[str, Any]]:
    """Name -> entry of every initializer, for :func:`~workers.onnx_worker.compiled.tensors.write_tensors`."""
    return {tensor.name: _location(tensor) for tensor in graph.graph.initializer}


def _location(tensor: TensorProto) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "dtype": helper.tensor_dtype_to_np_dtype(tensor.data_type).name,
        "shape": list(tensor.dims),
    }
    if tensor.data_location == TensorProto.EXTERNAL:
        where = {each.key: each.value for each in tensor.external_data}
        return entry | {"offset": int(where["offset"])}
    return entry | {"values": numpy_helper.to_array(tensor).reshape(-1).tolist()}
