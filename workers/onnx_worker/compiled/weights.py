"""The weights of a graph of integer rows, laid out for the compiled functions."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.shapes import (
    LANES,
    VECTOR_BYTES,
    WIDTH,
    Constants,
    Sizes,
    Weights,
    layer_matrices,
)
from workers.onnx_worker.compiled.tensors import Tensors
from workers.runtime.kv_cache import KVCache

_FOUR: Final = 4
"""Inputs that are multiplied at once."""
_CENTRE: Final = 128
"""What stands for zero in a rounded row."""


def constants_of(tensors: Tensors) -> Constants:
    """A model's constants."""
    shape = tensors.shape
    scale = shape["attention_scale"] or shape["head_dim"] ** -0.5
    return Constants(
        epsilon=np.float32(shape["rms_epsilon"]),
        attention_scale=np.float32(scale),
        normalised_step=tensors.number("normalised.step"),
        attended_step=tensors.number("attended.step"),
        peak_step=tensors.number("peak.step"),
        normed_heads="blk.0.attn_q_norm.weight" in tensors,
    )


def load_weights(tensors: Tensors, sizes: Sizes, cache: KVCache, slots: int) -> Weights:
    """Copy a model's weights.

    Args:
        tensors: As they were prepared.
        sizes: The model's.
        cache: Where keys and values are kept.
        slots: Of it.
    """
    layers, windows = range(sizes.layers), tensors.shape["windows"]
    matrices = _pack(tensors, sizes)
    normed, biased = "blk.0.attn_q_norm.weight" in tensors, "layers.0.qkv.bias" in tensors
    local = "local_cos_cache" in tensors
    no_bias, ones = np.zeros(layer_matrices(sizes)[0][0], np.float32), np.ones(sizes.head_dim, np.float32)
    norms = [tensors[f"blk.{layer}.{kind}_norm.weight"] for layer in layers for kind in ("attn", "ffn")]
    head_norms = [
        [tensors[f"blk.{layer}.attn_{part}_norm.weight"] if normed else ones for part in "qk"]
        for layer in layers
    ]
    return Weights(
        values=matrices.values,
        addresses=np.array(matrices.addresses, np.int64),
        inputs=np.array(matrices.inputs, np.int64),
        firsts=np.array(matrices.firsts, np.int64),
        scales=np.concatenate(matrices.scales),
        starts=np.concatenate(matrices.starts),
        biases=np.stack([tensors[f"layers.{layer}.qkv.bias"] if biased else no_bias for layer in layers]),
        zeros=np.zeros(WIDTH, np.float32),
        norms=np.stack([*norms, tensors["output_norm.weight"]]),
        head_norms=np.array(head_norms, np.float32),
        mixing=tensors["mixing"],
        cosines=_tables(tensors, "cos_cache", local=local),
        sines=_tables(tensors, "sin_cache", local=local),
        windows=np.array(windows, np.int64),
        local=np.array([int(local and window > 0) for window in windows], np.int64),
        embedding=tensors.mapped("token_embedding.values"),
        embedding_scales=tensors["token_embedding.scales"][..., 0],
        caches=_addresses(cache, sizes, slots),
        length=cache.length,
    )


def _pack(tensors: Tensors, sizes: Sizes) -> _Packed:
    packed = _Packed(sizes)
    for layer in range(sizes.layers):
        qkv, attended, gate, up, down = (
            (tensors[f"layers.{layer}.{name}.values"], tensors[f"layers.{layer}.{name}.scales"])
            for name in ("qkv", "attention_output", "gate", "up", "down")
        )
        for values, scales in (qkv, attended, _in_turns(gate, up), down):
            packed.add(values, scales)
    values, scales = tensors["lm_head.values"], tensors["lm_head.scales"]
    missing = sizes.vocabulary - len(scales)
    packed.add(np.pad(values, ((0, 0), (0, missing))), np.pad(scales, (0, missing)))
    return packed


def _tables(tensors: Tensors, name: str, *, local: bool) -> NDArray[np.float32]:
    tables = [tensors[name], tensors[f"local_{name}"]] if local else [tensors[name]]
    return np.stack(tables)


def _addresses(cache: KVCache, sizes: Sizes, slots: int) -> NDArray[np.int64]:
    arrays = cache.rows(0, slots)
    addresses = [
        [arrays[f"{layer}.{half}"].ctypes.data for half in ("key", "value")] for layer in range(sizes.layers)
    ]
    return np.array(addresses, np.int64)


def _in_turns(
    gate: tuple[NDArray[Any], NDArray[Any]], up: tuple[NDArray[Any], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Gate and up as one matrix whose blocks of 16 outputs take turns, and its scales."""
    inputs = len(gate[0])
    values = np.stack([part[0].reshape(inputs, -1, LANES) for part in (gate, up)], axis=2)
    scales = np.stack([part[1].reshape(-1, LANES) for part in (gate, up)], axis=1)
    return values.reshape(inputs, -1), scales.reshape(-1)


class _Packed:
    """All matrices behind each other."""

    def __init__(self, sizes: Sizes) -> None:
        layer = sum(outputs * inputs for outputs, inputs in layer_matrices(sizes))
        size = sizes.layers * layer + sizes.vocabulary * sizes.hidden
        room = np.empty(size + VECTOR_BYTES, np.int8)
        first = -room.ctypes.data % VECTOR_BYTES
        self.values = room[first : first + size]
        self.addresses: list[int] = []
        self.inputs: list[int] = []
        self.firsts: list[int] = []
        self.scales: list[NDArray[np.float32]] = []
        self.starts: list[NDArray[np.int32]] = []
        self._filled = 0
        self._outputs = 0

    def add(self, values: NDArray[np.int8], scales: NDArray[np.float32]) -> None:
        """Put a matrix behind the others.

        Args:
            values: int8 ``[inputs, outputs]``.
            scales: float32 ``[outputs]``.
        """
        inputs, outputs = values.shape
        part = self.values[self._filled : self._filled + values.size]
        blocks = part.reshape(outputs // LANES, inputs // _FOUR, LANES, _FOUR)
        blocks[...] = values.reshape(inputs // _FOUR, _FOUR, outputs // LANES, LANES).transpose(2, 0, 3, 1)
        self.addresses.append(part.ctypes.data)
        self.inputs.append(inputs)
        self.firsts.append(self._outputs)
        self.scales.append(scales)
        self.starts.append(-_CENTRE * values.sum(axis=0, dtype=np.int32))
        self._filled += values.size
        self._outputs += outputs
