"""Matrices as 8-bit columns: one scale for each output, ``w = scale * q``, rounded with an eye on the inputs.

Rounding every weight to its nearest step is not what changes a product least: the error of one weight can be
made up for by those that are rounded after it, as far as their inputs go together. The inputs of a
calibration text say how far. Frantar et al., "GPTQ", 2022, https://arxiv.org/abs/2210.17323.

All of it is float64, so that machines whose libraries add up in another order round the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

_LIMIT: Final = 127  # largest magnitude of a quantised value
_DAMPING: Final = 0.1
"""Part of the mean of the diagonal that is added to it: trust in the calibration's limits."""
_PANEL: Final = 32
"""Inputs whose errors are passed on to later ones together."""
_OUTPUTS: Final = 2048
"""Outputs worked on together: a panel of them stays in a core's cache."""


@dataclass(frozen=True, slots=True)
class Columns:
    """A quantised matrix of ``outputs`` x ``inputs``, in the layout of a right-hand factor."""

    values: npt.NDArray[np.int8]
    """``[inputs, outputs]``."""
    scales: Floats
    """``[outputs]``."""

    def dequantise(self) -> Floats:
        """Return the matrix that the columns stand for: float32 ``[outputs, inputs]``."""
        floats: Floats = self.values.astype(np.float32) * self.scales
        return np.ascontiguousarray(floats.T)


class Rounding:
    """Rounds matrices so that their products with certain inputs change little.

    Args:
        inputs: What they are multiplied by, float64 ``[tokens, inputs]``.
    """

    def __init__(self, inputs: Doubles) -> None:
        self._passing = _passing(inputs)

    def quantise(self, matrix: Floats) -> Columns:
        """Round a matrix, float32 ``[outputs, inputs]``."""
        scales = np.abs(matrix).max(axis=1) / np.float32(_LIMIT)
        scales[scales == 0] = 1  # an output of zeros
        values = np.empty(matrix.shape[::-1], np.int8)
        for start in range(0, len(matrix), _OUTPUTS):
            outputs = slice(start, start + _OUTPUTS)
            left = matrix[outputs].T.astype(np.float64, order="C")
            _round(left, scales[outputs].astype(np.float64), self._passing, values[:, outputs])
        return Columns(values, scales)


def _round(left: Doubles, scales: Doubles, passing: Doubles, values: npt.NDArray[np.int8]) -> None:
    """Fill ``values`` row by row; ``left``, ``[inputs, outputs]``, becomes what is still to be rounded."""
    for start in range(0, len(left), _PANEL):
        behind = min(start + _PANEL, len(left))
        errors = np.empty((behind - start, left.shape[1]))
        for row in range(start, behind):
            rounded = np.rint(left[row] / scales).clip(-_LIMIT, _LIMIT)
            values[row] = rounded
            error = errors[row - start] = (left[row] - rounded * scales) / passing[row, row]
            left[row + 1 : behind] -= passing[row, row + 1 : behind, None] * error
        left[behind:] -= passing[start:behind, behind:].T @ errors


def _passing(inputs: Doubles) -> Doubles:
    """Return by how much an input's error is passed on to later ones: upper triangular ``[inputs, inputs]``.

    The Cholesky factor of the inverse of the inputs' second moments, damped.
    """
    moments = inputs.T @ inputs
    spread = float(np.trace(moments)) / len(moments) or 1.0  # inputs of zeros say nothing
    moments += np.eye(len(moments)) * _DAMPING * spread
    factor: Doubles = np.linalg.cholesky(np.linalg.inv(moments)).T
    return factor
