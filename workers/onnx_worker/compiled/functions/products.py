"""Products of all rows with some outputs of a matrix, and weighted sums."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.numbers import LOOSE, exponential
from workers.onnx_worker.compiled.functions.tiles import (
    SUM_ROWS,
    SUM_VECTORS,
    TILE_ROWS,
    byte_tile,
    float_sums,
)
from workers.onnx_worker.compiled.shapes import LANES, WIDTH

_HALF: Final = WIDTH // 2
_WIDE: Final = SUM_VECTORS[0]


@compiled()
def multiply(
    rows: Any, rounded: Any, inputs: Any, block: Any, starts: Any, scales: Any, factors: Any, addend: Any,
    addend_stride: Any, result: Any, result_stride: Any, ahead: Any,
) -> None:  # fmt: skip
    """32 outputs of all rows: ``sums * scales * factors + addend``.

    Args:
        rows: How many.
        rounded: uint8 ``[at least rows, at least inputs]``.
        inputs: Of the matrix.
        block: Address of the weights of the 32 outputs.
        starts: Address of int32 ``[32]``, what the sums begin with.
        scales: Address of float32 ``[32]``.
        factors: float32 ``[at least rows]``.
        addend: Address of float32 ``[rows, 32]``.
        addend_stride: Bytes from one of its rows to the next.
        result: Like ``addend``, and may be the same.
        result_stride: Bytes from one of its rows to the next.
        ahead: Address of what is multiplied next.
    """
    stride = rounded.shape[1]
    for first in range(0, rows, TILE_ROWS):
        byte_tile(
            min(TILE_ROWS, rows - first), rounded.ctypes.data + first * stride, stride, block, LANES * inputs,
            inputs // 4, starts, scales, factors.ctypes.data + 4 * first, addend + first * addend_stride,
            addend_stride, result + first * result_stride, result_stride, ahead,
        )  # fmt: skip


@compiled()
def weighted_sums(
    rows: Any, weight: Any, weight_stride: Any, vector: Any, vector_width: Any, width: Any, count: Any,
    sums: Any, sums_stride: Any, ahead: Any,
) -> None:  # fmt: skip
    """For each row, ``count`` vectors of ``width`` floats by as many weights, added up.

    Args:
        rows: How many.
        weight: Address of float32 ``[rows, count]``.
        weight_stride: Bytes from one of its rows to the next.
        vector: Address of float32 ``[count, vector_width]``.
        vector_width: At least ``width``.
        width: Columns that are added up, a multiple of 16.
        count: Of the vectors.
        sums: Address of float32 ``[rows, width]``.
        sums_stride: Bytes from one of its rows to the next.
        ahead: Address of ``[count, vector_width]`` floats that are read next.
    """
    row = 0
    while row < rows:
        height = SUM_ROWS[0] if rows - row >= SUM_ROWS[0] else min(rows - row, SUM_ROWS[1])
        source, target = weight + row * weight_stride, sums + row * sums_stride
        column = 0
        while column < width:
            vectors = _WIDE if width - column >= _WIDE * LANES else 1
            float_sums(
                height, vectors, source, weight_stride, vector + 4 * column, 4 * vector_width, count,
                target + 4 * column, sums_stride, ahead + 4 * column,
            )  # fmt: skip
            column += vectors * LANES
        row += height


@compiled(fastmath=LOOSE)
def gate(both: Any, gated: Any) -> None:
    """``gate * sigmoid(gate) * up``.

    Args:
        both: float32 ``[32]``: 16 of gate and 16 of up.
        gated: float32 ``[16]``, filled.
    """
    for each in range(_HALF):
        gated[each] = both[each] / (np.float32(1.0) + exponential(-both[each])) * both[_HALF + each]
