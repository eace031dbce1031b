"""Matrices as 8-bit blocks: 32 neighbours of a row share one scale, ``w = scale * (q - 128)``.

The layout is that of ONNX Runtime's ``GatherBlockQuantized`` with ``bits=8`` and no zero points:
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GatherBlockQuantized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BLOCK: Final = 32
"""Elements that share a scale."""

_OFFSET: Final = 128  # what an 8-bit GatherBlockQuantized subtracts from every q
_LIMIT: Final = 127  # largest magnitude of a quantised value


@dataclass(frozen=True, slots=True)
class Blocks:
    """A quantised matrix of ``rows`` x ``columns``."""

    values: npt.NDArray[np.uint8]
    """``[rows, columns / 32, 32]``, offset by 128."""
    scales: npt.NDArray[np.float32]
    """``[rows, columns / 32]``."""

    def dequantise(self) -> npt.NDArray[np.float32]:
        """Return the matrix that the blocks stand for: float32 ``[rows, columns]``."""
        signed = self.values.astype(np.float32) - np.float32(_OFFSET)
        floats: npt.NDArray[np.float32] = signed * self.scales[:, :, None]
        return floats.reshape(len(floats), -1)


def quantise(matrix: npt.NDArray[np.float32]) -> Blocks:
    """Round float32 ``[rows, columns]``, columns a multiple of 32, to 8-bit blocks.

    No element moves by more than half its block's scale, which is the block's largest magnitude / 127.
    """
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(_LIMIT)
    steps = scales[:, :, None]
    ratios = np.divide(
        blocks, steps, out=np.zeros_like(blocks), where=steps > 0
    )  # a block of zeros has no scale
    values = np.rint(ratios).clip(-_LIMIT, _LIMIT) + _OFFSET
    return Blocks(values.astype(np.uint8), scales)
