"""The decoder as an ONNX graph that appends to its caches in place.

Inputs, with L layers and all sizes as in :class:`~workers.runtime.artefact.ModelDescription`::

    input_ids                 int64   [batch, sequence]
    query_seqlens             int32   [batch]      tokens of each row in this run; those behind are padding
    seqlens_k                 int32   [batch]      tokens of each row once this run is done, minus 1
    total_sequence_length     int32   []           the largest of those, plus 1; must lie in CPU memory
    logit_rows                int64   [rows]       positions of batch * sequence that get logits; may be empty
    past_key_values.{i}.key   float32 [batch, kv_heads, max_length, head_dim], i = 0 … L-1; .value alike

and for a model that sees, for the tokens whose embeddings are rows of image features::

    features                  float32 [features, hidden_size]   may be empty
    feature_places            int64   [features, 2]             row of the batch and place in it of each

Outputs::

    logits                    float32 [rows, vocab_size], in the order of logit_rows
    present.{i}.key           float32 as its past; .value alike

Bind a past and its present to one and the same buffer: the attention operator then writes the new keys and
values behind those that are there and copies nothing. ``max_length`` is whatever the buffers have, up to
``context_length``. A run with one row a slot, where ``lengths`` counts the tokens in every row::

    buffers = {f"{i}.{half}": np.zeros((slots, kv_heads, max_length, head_dim), np.float32)
               for i in range(layers) for half in ("key", "value")}

    def bind(first, behind):                              # for the rows first … behind - 1, once
        binding = session.io_binding()
        for name, buffer in buffers.items():
            value = ort.OrtValue.ortvalue_from_numpy(buffer[first:behind])
            binding.bind_ortvalue_input(f"past_key_values.{name}", value)
            binding.bind_ortvalue_output(f"present.{name}", value)
        return binding

    def run(binding, rows, lengths, logit_rows):          # lengths: with the tokens of this run
        logits = np.empty((len(logit_rows), vocab_size), np.float32)
        input_ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for row, tokens in enumerate(rows):
            input_ids[row, : len(tokens)] = tokens
        binding.bind_cpu_input("input_ids", input_ids)
        binding.bind_cpu_input("query_seqlens", np.array([len(tokens) for tokens in rows], np.int32))
        binding.bind_cpu_input("seqlens_k", np.asarray(lengths, np.int32) - np.int32(1))
        binding.bind_cpu_input("total_sequence_length", np.array(max(lengths), np.int32))
        binding.bind_cpu_input("logit_rows", np.asarray(logit_rows, np.int64))
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        session.run_with_iobinding(binding)
        return logits

    run(bind(2, 3), [prompt[:128]], [128], [])           # row 2: first part of a prompt, no logits yet
    run(bind(2, 3), [prompt[128:]], [len(prompt)], [len(prompt) - 128 - 1])
    run(bind(0, 3), [[a], [b], [c]], [9, 71, len(prompt) + 1], [0, 1, 2])       # a token more for three rows
    run(bind(0, 2), [[d, e, f], [g]], [12, 72], [0, 1, 2, 3])                   # three and one

What holds for it, seen with ONNX Runtime 1.32 on the CPU:

- Nothing keeps the numpy arrays alive but the caller: neither a binding nor the value inside it does.
- Rows may differ in everything: what they hold, and how many tokens they take in. Padding is computed like
  tokens but for the attention, and written nowhere.
- A row's result does not depend on the rows beside it, nor on whether its tokens come one by one or at once,
  as long as they are few, bit by bit. Cutting a prompt elsewhere does
  change the last bits: by 1e-6 of the largest logit in fp32, by as much as quantisation itself does in int8.
- A row that has nothing to do can go along with ``query_seqlens`` 0 and the ``seqlens_k`` that it has.
- A length over ``max_length`` is refused by ONNX Runtime, since present would outgrow its buffer.

A layer of a Llama model is eleven nodes, and twice as many where rows are rounded before they are multiplied.
In the last layer only the wanted positions go on behind the attention, so a part of a prompt that needs no
logits skips that layer's other matrices and the head. Fusing gate and up into one matrix and splitting the
product afterwards was measured to be no faster, whether for one stream or in batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from workers.onnx_worker.convert import rotary
from workers.onnx_worker.convert.family import Activation
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import CONTRIB, Nodes
from workers.onnx_worker.convert.precision import Precision
from workers.onnx_worker.convert.shape import ModelShape, Rotary, Window
from workers.onnx_worker.convert.tensors import Tensors
from workers.onnx_worker.convert.weights import WeightFile

OPSET: Final = 21
IR_VERSION: Final = 10

FEATURES: Final = "features"
FEATURE_PLACES: Final = "feature_places"


class DecoderGraph:
    """Builds the graph of one model, layer by layer.

    Args:
        file: Where the weights come from.
        shape: Its sizes.
        precision: How matrices are held.
        weights: Where the weights go.
        seen: Called with the name of every tensor that is read.
    """

    def __init__(
        self,
        file: Tensors,
        shape: ModelShape,
        precision: Precision,
        weights: WeightFile,
        seen: Callable[[str], None],
    ) -> None:
        self._file = file
        self._shape = shape
        self._precision = precision
        self._seen = seen
        self._nodes = Nodes(weights)

    def build(self) -> ModelProto:
        """Write all weights and return the graph, which refers to them by the name of the weight file."""
        nodes, shape = self._nodes, self._shape
        self._rotary_tables(shape.rotary, *_caches(None))
        if shape.window is not None and shape.window.rotary != shape.rotary:
            self._rotary_tables(shape.window.rotary, *_caches(shape.window))
        residual = self._embedding()
        states = nodes.add(
            "SimplifiedLayerNormalization", layer_input(0)[0],
            [residual, self._norm("blk.0.attn_norm.weight")], axis=-1, epsilon=shape.rms_epsilon,
        )  # fmt: skip
        for layer in range(shape.layers):
            attended = self._attention(layer, states)
            if layer == shape.layers - 1:
                attended, residual = self._wanted_rows(attended, residual)
            prefix = f"layers.{layer}"
            projected = self._linear(
                f"{prefix}.attention_output", attended, f"blk.{layer}.attn_output.weight"
            )
            projected = self._post_norm(projected, f"blk.{layer}.post_attention_norm.weight")
            names = (f"{prefix}.ffn_input", f"{prefix}.ffn_input.residual")
            states, residual = self._add_and_norm(names, projected, residual, f"blk.{layer}.ffn_norm.weight")
            states = self._feed_forward(layer, states)
            states = self._post_norm(states, f"blk.{layer}.post_ffw_norm.weight")
            last = layer == shape.layers - 1
            norm = "output_norm.weight" if last else f"blk.{layer + 1}.attn_norm.weight"
            names = ("head_input", "head_input.residual") if last else layer_input(layer + 1)
            states, residual = self._add_and_norm(names, states, residual, norm)
        rows = nodes.weights.add("head_input.rows_shape", np.array([-1, shape.hidden], dtype=np.int64))
        states = nodes.add("Reshape", "head_input.rows", [states, rows])
        self._precision.head(nodes, states, None if shape.tied else self._matrix("output.weight"))
        return self._model()

    def _embedding(self) -> str:
        """Look the tokens up, and put image features in their places."""
        nodes, shape = self._nodes, self._shape
        found = self._precision.embed(nodes, "input_ids", self._matrix("token_embd.weight"))
        if shape.family.embedding_scaled:
            scale = nodes.weights.add("token_embedding.scale", np.array(np.sqrt(shape.hidden), np.float32))
            found = nodes.add("Mul", "token_embedding.scaled", [found, scale])
        if shape.sees:
            found = nodes.add("ScatterND", "token_embedding.seen", [found, FEATURE_PLACES, FEATURES])
        return found

    def _attention(self, layer: int, states: str) -> str:
        shape, nodes, prefix = self._shape, self._nodes, f"layers.{layer}"
        parts = [self._matrix(f"blk.{layer}.attn_{part}.weight") for part in "qkv"]
        packed = self._precision.linear(nodes, f"{prefix}.qkv", states, parts)
        if shape.family.qkv_bias:
            biases = [self._vector(f"blk.{layer}.attn_{part}.bias") for part in "qkv"]
            bias = nodes.weights.add(f"{prefix}.qkv.bias", np.concatenate(biases))
            packed = nodes.add("Add", f"{prefix}.qkv.biased", [packed, bias])
        rows = self._normed_heads(layer, packed) if shape.family.qk_norm else [packed, "", ""]
        past, present = (
            [f"{kind}.{layer}.{half}" for half in ("key", "value")] for kind in ("past_key_values", "present")
        )
        window = shape.window_of(layer)
        further: dict[str, int | float] = {}
        if window is not None:
            further["local_window_size"] = window.tokens
        if shape.attention_scale is not None:
            further["scale"] = shape.attention_scale
        caches = _caches(window if window is not None and window.rotary != shape.rotary else None)
        attended = f"{prefix}.attended"
        nodes.add_many(
            "GroupQueryAttention", [attended, *present],
            [*rows, *past, "seqlens_k", "total_sequence_length", *caches, *[""] * 7, "query_seqlens"],
            num_heads=shape.heads, kv_num_heads=shape.kv_heads, do_rotary=1, rotary_interleaved=0, **further,
        )  # fmt: skip
        return attended

    def _normed_heads(self, layer: int, packed: str) -> list[str]:
        """Queries, keys and values apart, each head's query and key normalised."""
        nodes, shape, prefix = self._nodes, self._shape, f"layers.{layer}"
        queries, keys, values = (f"{prefix}.{part}" for part in ("queries", "keys", "values"))
        sizes = nodes.constant("qkv.sizes", [shape.queries, shape.keys, shape.keys], np.int64)
        nodes.add_many("Split", [queries, keys, values], [packed, sizes], axis=-1)
        heads = nodes.constant("heads.shape", [0, -1, shape.head_dim], np.int64)
        normed = []
        for part, width in ((queries, shape.queries), (keys, shape.keys)):
            letter = part.removeprefix(f"{prefix}.")[0]
            rows = nodes.add("Reshape", f"{part}.heads", [part, heads])
            rows = nodes.add(
                "SimplifiedLayerNormalization", f"{part}.heads.normed",
                [rows, self._norm(f"blk.{layer}.attn_{letter}_norm.weight")],
                axis=-1, epsilon=shape.rms_epsilon,
            )  # fmt: skip
            whole = nodes.constant(f"heads.{width}.whole", [0, -1, width], np.int64)
            normed.append(nodes.add("Reshape", f"{part}.normed", [rows, whole]))
        return [*normed, values]

    def _feed_forward(self, layer: int, states: str) -> str:
        prefix = f"layers.{layer}"
        gate = self._linear(f"{prefix}.gate", states, f"blk.{layer}.ffn_gate.weight")
        up = self._linear(f"{prefix}.up", states, f"blk.{layer}.ffn_up.weight")
        match self._shape.family.activation:
            case Activation.SILU:  # x * sigmoid(x)
                active = self._nodes.add("QuickGelu", f"{prefix}.active", [gate], alpha=1.0)
            case Activation.GELU:
                active = self._nodes.add("FastGelu", f"{prefix}.active", [gate])
        gated = self._nodes.add("Mul", f"{prefix}.gated", [active, up])
        return self._linear(f"{prefix}.down", gated, f"blk.{layer}.ffn_down.weight")

    def _post_norm(self, states: str, norm: str) -> str:
        if not self._shape.family.post_norms:
            return states
        return self._nodes.add(
            "SimplifiedLayerNormalization", f"{states}.normed", [states, self._norm(norm)],
            axis=-1, epsilon=self._shape.rms_epsilon,
        )  # fmt: skip

    def _wanted_rows(self, attended: str, residual: str) -> tuple[str, str]:
        nodes, shape, wanted = self._nodes, self._shape, []
        for name, columns in ((attended, shape.heads * shape.head_dim), (residual, shape.hidden)):
            flat = nodes.weights.add(f"{name}.flat_shape", np.array([1, -1, columns], dtype=np.int64))
            rows = nodes.add("Reshape", f"{name}.flat", [name, flat])
            wanted.append(nodes.add("Gather", f"{name}.wanted", [rows, "logit_rows"], axis=1))
        return wanted[0], wanted[1]

    def _add_and_norm(self, names: tuple[str, str], states: str, residual: str, norm: str) -> tuple[str, str]:
        output, total = names
        self._nodes.add_many(
            "SkipSimplifiedLayerNormalization", [output, "", "", total], [states, residual, self._norm(norm)],
            epsilon=self._shape.rms_epsilon,
        )  # fmt: skip
        return names

    def _linear(self, name: str, states: str, tensor: str) -> str:
        return self._precision.linear(self._nodes, name, states, [self._matrix(tensor)])

    def _matrix(self, tensor: str) -> Matrix:
        return Matrix(self._file, tensor, self._seen)

    def _vector(self, tensor: str) -> npt.NDArray[np.float32]:
        self._seen(tensor)
        return self._file.floats(tensor)

    def _norm(self, tensor: str) -> str:
        return self._nodes.weights.add(tensor, self._vector(tensor))

    def _rotary_tables(self, how: Rotary, cosines: str, sines: str) -> None:
        factors = None if how.factors is None else self._vector(how.factors)
        tables = rotary.tables(self._shape.context, self._shape.head_dim, how, factors)
        for name, values in zip((cosines, sines), tables, strict=True):
            self._nodes.weights.add(name, values)

    def _model(self) -> ModelProto:
        shape = self._shape
        cache = ("batch", shape.kv_heads, "max_length", shape.head_dim)
        halves = [f"{layer}.{half}" for layer in range(shape.layers) for half in ("key", "value")]
        inputs = [
            _value("input_ids", TensorProto.INT64, ("batch", "sequence")),
            _value("query_seqlens", TensorProto.INT32, ("batch",)),
            _value("seqlens_k", TensorProto.INT32, ("batch",)),
            _value("total_sequence_length", TensorProto.INT32, ()),
            _value("logit_rows", TensorProto.INT64, ("rows",)),
            *(_value(f"past_key_values.{half}", TensorProto.FLOAT, cache) for half in halves),
        ]
        if shape.sees:
            inputs.append(_value(FEATURES, TensorProto.FLOAT, ("features", shape.hidden)))
            inputs.append(_value(FEATURE_PLACES, TensorProto.INT64, ("features", 2)))
        outputs = [
            _value("logits", TensorProto.FLOAT, ("rows", shape.vocab)),
            *(_value(f"present.{half}", TensorProto.FLOAT, cache) for half in halves),
        ]
        graph = helper.make_graph(
            self._nodes.all, shape.family.name, inputs, outputs, initializer=self._nodes.weights.initializers
        )
        return helper.make_model(
            graph,
            producer_name="diplex",
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
        )


def layer_input(layer: int) -> tuple[str, str]:
    """Names of what goes into a layer: normalised states and residual, float32 ``[batch, sequence, hidden]``.

    The first layer's residual has another name.
    """
    return f"layers.{layer}.attention_input", f"layers.{layer}.attention_input.residual"


def _caches(window: Window | None) -> tuple[str, str]:
    """Names of the rotary tables of layers with or without a window that turns positions in its own way."""
    kind = "" if window is None else "local_"
    return f"{kind}cos_cache", f"{kind}sin_cache"


def _value(name: str, kind: int, shape: tuple[int | str, ...]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
