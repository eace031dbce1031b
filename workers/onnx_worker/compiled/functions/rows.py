"""What is done to one row between the products: norms, rounding, positions."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.numbers import LOOSE, largest_magnitude, to_byte

_SMALLEST: Final = np.float32(1e-20)
"""Peak of a row of zeros; and what is added to its mean square."""
_BLOCK: Final = 32
"""Elements of an embedding that share a scale."""


@compiled(fastmath=LOOSE)
def embed(values: Any, scales: Any, row: Any) -> None:
    """A token's embedding.

    Args:
        values: uint8 ``[blocks, 32]`` around 128.
        scales: float32 ``[blocks]``.
        row: float32 ``[32 * blocks]``, filled.
    """
    for block in range(len(scales)):
        for each in range(_BLOCK):
            row[_BLOCK * block + each] = (np.float32(values[block, each]) - np.float32(128.0)) * scales[block]


@compiled(fastmath=LOOSE)
def normalise_and_round(row: Any, norm: Any, epsilon: Any, step: Any, rounded: Any) -> None:
    """A row over its root mean square, times ``norm``, in whole steps."""
    width, squares = len(row), np.float32(0.0)
    for each in range(width):
        squares += row[each] * row[each]
    factor = np.float32(1.0) / np.sqrt(squares / np.float32(width) + epsilon) / step
    for each in range(width):
        rounded[each] = to_byte(row[each] * factor * norm[each])


@compiled(fastmath=LOOSE)
def round_by_spread(attended: Any, step: Any, rounded: Any) -> Any:
    """Round all heads of a row, float32 ``[heads, head_dim]``, to steps of its root mean square.

    Returns:
        One step.
    """
    heads, width = attended.shape
    squares = np.float32(0.0)
    for head in range(heads):
        for each in range(width):
            squares += attended[head, each] * attended[head, each]
    spread = np.sqrt(squares / np.float32(heads * width) + _SMALLEST)
    factor = np.float32(1.0) / (spread * step)
    for head in range(heads):
        place = rounded[head * width :]
        for each in range(width):
            place[each] = to_byte(attended[head, each] * factor)
    return spread * step


@compiled(fastmath=LOOSE)
def round_by_peak(row: Any, step: Any, rounded: Any) -> Any:
    """Round a row to steps of its largest magnitude; returns one step."""
    unit = max(largest_magnitude(row), _SMALLEST) * step
    factor = np.float32(1.0) / unit
    for each in range(len(row)):
        rounded[each] = to_byte(row[each] * factor)
    return unit


@compiled(fastmath=LOOSE)
def normalise(row: Any, norm: Any, epsilon: Any) -> None:
    """A head's query or key over its root mean square, times ``norm``, in place."""
    width, squares = len(row), np.float32(0.0)
    for each in range(width):
        squares += row[each] * row[each]
    factor = np.float32(1.0) / np.sqrt(squares / np.float32(width) + epsilon)
    for each in range(width):
        row[each] *= factor * norm[each]


@compiled(fastmath=LOOSE)
def turn(row: Any, cosines: Any, sines: Any, scale: Any) -> None:
    """A head's query or key by its position, in place: element i with element i + half."""
    half = len(cosines)
    for each in range(half):
        first, second = row[each], row[half + each]
        row[each] = (first * cosines[each] - second * sines[each]) * scale
        row[half + each] = (second * cosines[each] + first * sines[each]) * scale
