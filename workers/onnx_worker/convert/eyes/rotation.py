"""Equivalent eyes that round better: as the decoder's rotation (:mod:`workers.onnx_worker.convert.rotation`).

The tower normalises by mean and variance. Everything that is written to its residual stream gets its mean
taken off beforehand, which a norm would do anyway; then only the root mean square is left to divide by, and
that doesn't notice a rotation. Ashkboos et al., "SliceGPT", 2024, https://arxiv.org/abs/2401.15024, section
3.1.

All norms' weights are ones and their biases zeros in the result: both are taken in by the matrices behind.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.eyes.shape import EyesShape
from workers.onnx_worker.convert.eyes.tower import Floats, Tower
from workers.onnx_worker.convert.rotation import random_rotation

Doubles = npt.NDArray[np.float64]

_NORM_BEFORE: Final = {"q": "norm1", "k": "norm1", "v": "norm1", "up": "norm2"}


class RotatedTower:
    """A :class:`~workers.onnx_worker.convert.eyes.tower.Tower`.

    Args:
        tower: The eyes as they are.
        shape: Their sizes.
        turn: How the language model's residual stream is turned, float64 ``[features, features]``.
    """

    def __init__(self, tower: Tower, shape: EyesShape, turn: Doubles) -> None:
        self._tower = tower
        self._shape = shape
        self._features_turn = turn
        self._turn = random_rotation(shape.hidden)
        self._head_turn = random_rotation(shape.head_dim)

    def weight(self, name: str) -> Floats:
        """The turned matrix, computed in float64."""
        if _is_norm(name):
            return np.ones(self._shape.hidden, np.float32)
        values = self._tower.weight(name).astype(np.float64)
        match name.split("."):
            case ["patch"]:
                values = self._written(values.T).T
            case ["connector"]:
                values = self._features_turn.T @ self._read(values, "norm")
            case ["layers", layer, "q" | "k" | "v" | "up" as part]:
                values = self._read(values, f"layers.{layer}.{_NORM_BEFORE[part]}")
                if part == "v":
                    values = _turned(values.T, self._head_turn).T
            case [_, _, "out"]:
                values = self._written(_turned(values, self._head_turn).T).T
            case [_, _, "down"]:
                values = self._written(values.T).T
        return values.astype(np.float32)

    def bias(self, name: str) -> Floats:
        """The bias with what norms' biases come to behind the matrix."""
        if _is_norm(name):
            return np.zeros(self._shape.hidden, np.float32)
        values = self._tower.bias(name).astype(np.float64)
        match name.split("."):
            case ["patch"] | [_, _, "out" | "down"]:
                values = self._written(values[None])[0]
            case ["connector"]:
                values = self._features_turn.T @ (values + self._shifted(name, "norm"))
            case ["layers", layer, "q" | "k" | "v" | "up" as part]:
                values = values + self._shifted(name, f"layers.{layer}.{_NORM_BEFORE[part]}")
                if part == "v":
                    values = _turned(values[None], self._head_turn)[0]
        return values.astype(np.float32)

    def positions(self) -> Floats:
        """See :class:`~workers.onnx_worker.convert.eyes.tower.Tower`."""
        return self._written(self._tower.positions().astype(np.float64)).astype(np.float32)

    def _written(self, rows: Doubles) -> Doubles:
        """Rows that are added to the stream, without their means, turned."""
        turned: Doubles = (rows - rows.mean(axis=1, keepdims=True)) @ self._turn
        return turned

    def _read(self, matrix: Doubles, norm: str) -> Doubles:
        """A matrix that reads behind a norm, with the norm's weights taken in, turned.

        The connector's reads several rows of the stream side by side.
        """
        weights = self._tower.weight(norm).astype(np.float64)
        return _turned(matrix * np.tile(weights, matrix.shape[1] // len(weights)), self._turn)

    def _shifted(self, name: str, norm: str) -> Doubles:
        """What a norm's bias comes to behind a matrix."""
        bias = self._tower.bias(norm).astype(np.float64)
        matrix = self._tower.weight(name).astype(np.float64)
        shifted: Doubles = matrix @ np.tile(bias, matrix.shape[1] // len(bias))
        return shifted


def _is_norm(name: str) -> bool:
    return name.rpartition(".")[2] in {"norm", "norm1", "norm2"}


def _turned(rows: Doubles, turn: Doubles) -> Doubles:
    """Turn every part of rows that consist of parts as wide as ``turn``."""
    turned: Doubles = (rows.reshape(-1, len(turn)) @ turn).reshape(rows.shape)
    return turned
