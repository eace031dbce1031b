"""An equivalent model that rounds better: its residual stream is turned by an orthogonal matrix.

A few channels of a language model's residual stream are hundreds of times larger than the others, and one
scale for a whole row of activations then leaves next to nothing for the rest. RMS normalisation without its
weights doesn't notice a rotation, so the weights go into the matrices behind it, and every matrix that reads
the stream is turned one way, every matrix that writes it the other. The model computes what it did before,
at no cost, but every channel of the stream is now a mixture of all and none stands out: behind a norm its
values are spread like those of a normal distribution with standard deviation 1.

What isn't part of the stream is treated in kind. Each head's values are turned by a small matrix of their
own, and back by the matrix that mixes the heads. The products of gate and up are evened out by gains: rows of
up are multiplied and columns of down divided by the same numbers. Then neighbours are mixed, which no matrix
before can do, since the product lies between: the graph multiplies by :attr:`RotatedModel.mixing`.

After Ashkboos et al., "QuaRot", 2024, https://arxiv.org/abs/2404.00456 (rotation) and Xiao et al.,
"SmoothQuant", 2022, https://arxiv.org/abs/2211.10438 (gains).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_SEED: Final = 1
_MIXED: Final = 64
"""Products of gate and up that are mixed with each other, if the width allows it."""
_SMALLEST_NORM: Final = 1e-12
"""Stands in for a norm's weight of zero, whose channel is dropped anyway."""
_SMALLEST_SPREAD: Final = 1e-6

_NORM_BEFORE: Final = {
    "attn_q": "attn_norm", "attn_k": "attn_norm", "attn_v": "attn_norm",
    "ffn_gate": "ffn_norm", "ffn_up": "ffn_norm",
}  # fmt: skip
"""Matrix that reads the residual stream -> the norm whose weights it takes in."""

HEAD: Final = "output.weight"
EMBEDDING: Final = "token_embd.weight"


class RotatedModel:
    """The tensors of a model after rotation; a :class:`~workers.onnx_worker.convert.tensors.Tensors`.

    The output head is a matrix of its own even where the file ties it to the embedding, since it takes in the
    last norm's weights. All norms' weights are ones.

    Args:
        checkpoint: The model as it is.
        shape: Its sizes.
        calibration: What its matrices read.
    """

    def __init__(self, checkpoint: Tensors, shape: ModelShape, calibration: Calibration) -> None:
        self.path: Path = checkpoint.path
        self._checkpoint = checkpoint
        self._tied = shape.tied
        self._calibration = calibration
        self.turn = random_rotation(shape.hidden)
        """What rows of the residual stream are multiplied by from the right."""
        self._head_turn = random_rotation(shape.head_dim)
        self.mixing = random_rotation(math.gcd(shape.feed_forward, _MIXED))
        """What each group of neighbours among the products of gate and up is multiplied by from the right."""
        self._gains: dict[int, Doubles] = {}  # layer -> factors for the products of gate and up

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name``, rows first."""
        return self._checkpoint.shape(self._stored(name))

    def floats(self, name: str) -> Floats:
        """Return tensor ``name`` of the equivalent model, computed in float64."""
        return self._turned(name).astype(np.float32)

    def inputs(self, name: str) -> Doubles:
        """Return what matrix ``name`` of the equivalent model reads, float64 ``[tokens, columns]``.

        Asked for layer after layer, like :meth:`Calibration.inputs`.
        """
        inputs = self._calibration.inputs(name)
        if (norm := self._norm_before(name)) is not None:
            safe = np.where(np.abs(norm) < _SMALLEST_NORM, _SMALLEST_NORM, norm)
            return (inputs / safe) @ self.turn
        match name.split("."):
            case [_, _, "attn_output", _]:
                return _turn_parts(inputs, self._head_turn)
            case [_, layer, "ffn_down", _]:
                return _turn_parts(inputs * self._gain(int(layer)), self.mixing)
        return inputs

    def _turned(self, name: str) -> Doubles:
        values = self._checkpoint.floats(self._stored(name)).astype(np.float64)
        if (norm := self._norm_before(name)) is not None:
            values = (values * norm) @ self.turn
        match name.split("."):
            case ["token_embd", _]:
                values = values @ self.turn
            case [*_, "attn_norm" | "ffn_norm" | "output_norm", _]:
                values = np.ones_like(values)
            case [_, _, "attn_v", "weight"]:
                values = _turn_parts(values.T, self._head_turn).T
            case [_, _, "attn_v", "bias"]:
                values = _turn_parts(values[None], self._head_turn)[0]
            case [_, _, "attn_output", _]:
                values = self.turn.T @ _turn_parts(values, self._head_turn)
            case [_, layer, "ffn_up", _]:
                values = values * self._gain(int(layer))[:, None]
            case [_, layer, "ffn_down", _]:
                values = _turn_parts(self.turn.T @ values / self._gain(int(layer)), self.mixing)
        return values

    def _stored(self, name: str) -> str:
        return EMBEDDING if name == HEAD and self._tied else name

    def _norm_before(self, name: str) -> Doubles | None:
        """The weights of the norm that matrix ``name`` reads from, float64 ``[hidden]``."""
        if name == HEAD:
            return self._checkpoint.floats("output_norm.weight").astype(np.float64)
        block, _, rest = name.rpartition("blk.")[2].partition(".")
        norm = _NORM_BEFORE.get(rest.removesuffix(".weight"))
        return (
            None if norm is None else self._checkpoint.floats(f"blk.{block}.{norm}.weight").astype(np.float64)
        )

    def _gain(self, layer: int) -> Doubles:
        if layer not in self._gains:
            down = f"blk.{layer}.ffn_down.weight"
            self._gains[layer] = evening_gains(self._calibration.inputs(down), self._checkpoint.floats(down))
        return self._gains[layer]


def random_rotation(size: int) -> Doubles:
    """Return an orthogonal matrix, float64 ``[size, size]``, always the same for one size."""
    gaussian = np.random.default_rng(_SEED).standard_normal((size, size))
    return np.linalg.qr(gaussian)[0]


def evening_gains(inputs: Doubles, columns: Floats) -> Doubles:
    """Return factors that share the spread of a matrix' inputs evenly between inputs and weights.

    SmoothQuant's equation 4 with alpha = 0.5, over root mean squares of the inputs; scaled to a geometric
    mean of 1.

    Args:
        inputs: What the matrix reads, float64 ``[tokens, columns]``.
        columns: The matrix, float32 ``[rows, columns]``.
    """
    spread = np.maximum(np.sqrt(np.square(inputs).mean(axis=0)), _SMALLEST_SPREAD)
    weight = np.maximum(np.abs(columns).max(axis=0), _SMALLEST_SPREAD)
    gains: Doubles = np.sqrt(weight / spread)
    evened: Doubles = gains / np.exp(np.log(gains).mean())
    return evened


def _turn_parts(rows: Doubles, turn: Doubles) -> Doubles:
    """Turn every part of rows that consist of parts as wide as ``turn``."""
    turned: Doubles = (rows.reshape(len(rows), -1, len(turn)) @ turn).reshape(rows.shape)
    return turned
