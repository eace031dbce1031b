"""Matrices as 4-bit blocks with minima: 32 neighbours of a row share a step and a minimum, ``w = d q + m``.

ONNX Runtime's ``MatMulNBits`` is fast for ``d (q - 8)`` only, which can't hold a minimum. What is missing is
``m + 8 d`` times the sum of the inputs over the block. So the sums are appended to the inputs as further
columns, and ``m + 8 d`` to the weights: four bits of it, and four bits of what those leave, against the same
sums again. One product then does it all. See docs/decisions/0018-four-bits-with-minima.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes

Floats = npt.NDArray[np.float32]

BLOCK: Final = 32
"""Elements that share a step and a minimum."""

_LEVELS: Final = 15
"""Highest ``q``."""
_FEWEST_LEVELS: Final = 8
"""Steps that the values of a block are assumed to span at least, when it is looked for how many they do."""
_CENTRE: Final = 8
"""What the operator subtracts from every ``q``."""
_LIMIT: Final = 7
"""Largest magnitude around the centre that both signs have."""
_ROWS_AT_ONCE: Final = 1 << 22
"""Elements that are worked on together."""
_INTEGER_PRODUCTS: Final = 4
"""``accuracy_level`` that lets inputs be rounded to bytes, a scale for each of their blocks."""


@dataclass(frozen=True, slots=True)
class Nibbles:
    """A quantised matrix of ``rows`` x ``columns``, without what makes its minima."""

    values: npt.NDArray[np.uint8]
    """``[rows, columns / 32, 32]``, each 0 to 15."""
    steps: Floats
    """``[rows, columns / 32]``."""
    minima: Floats
    """``[rows, columns / 32]``."""

    def dequantise(self) -> Floats:
        """Return the matrix that the blocks stand for: float32 ``[rows, columns]``."""
        floats: Floats = self.values * self.steps[..., None] + self.minima[..., None]
        return floats.astype(np.float32).reshape(len(floats), -1)


def quantise(matrix: Floats) -> Nibbles:
    """Round float32 ``[rows, columns]``, columns a multiple of 32, to 4-bit blocks.

    Weights that had four bits with a step and a minimum before are found again as they were: of all the ways
    to lay steps from a block's lowest value to its highest, the one is taken that leaves least.
    """
    rows, columns = matrix.shape
    values = np.empty((rows, columns // BLOCK, BLOCK), np.uint8)
    steps, minima = (np.empty(values.shape[:2], np.float32) for _ in range(2))
    panel = max(_ROWS_AT_ONCE // columns, 1)
    for start in range(0, rows, panel):
        part = slice(start, start + panel)
        blocks = matrix[part].reshape(-1, *values.shape[1:])
        values[part], steps[part], minima[part] = _rounded(blocks)
    return Nibbles(values, steps, minima)


def columns_of_sums(columns: int) -> int:
    """Columns that the sums of a matrix' inputs take, padded to whole blocks."""
    return -(-(columns // BLOCK) // BLOCK) * BLOCK


def extend(nodes: Nodes, states: str, columns: int) -> str:
    """Append to float32 ``[…, columns]`` the sums of its blocks, twice: ``[…, columns + 2 padded sums]``.

    Done once for all matrices that read the same states, which is seen by the result's name.
    """
    extended, padded = f"{states}.extended", columns_of_sums(columns)
    if any(extended in node.output for node in nodes.all):
        return extended
    summing = np.zeros((columns, 2 * padded), np.float32)
    inputs = np.arange(columns)
    summing[inputs, inputs // BLOCK] = summing[inputs, padded + inputs // BLOCK] = 1
    sums = nodes.add("MatMul", f"{states}.sums", [states, nodes.constant(f"sums.{columns}", summing)])
    return nodes.add("Concat", extended, [states, sums], axis=-1)


def multiply(nodes: Nodes, output: str, states: str, name: str, parts: Sequence[Matrix]) -> str:
    """Multiply float32 ``[…, columns]`` by the transposed matrices, one below the other: ``[…, rows]``.

    Raises:
        UnsupportedModel: Their columns can't be cut into blocks.
    """
    columns = parts[0].shape[1]
    if columns % BLOCK:
        what = f"{parts[0].name} has {columns} columns, which is no multiple of {BLOCK}"
        raise UnsupportedModel(f"{what}; q4 can't hold it, fp32 can")
    packed = quantise(np.concatenate([part.floats() for part in parts]) if parts[1:] else parts[0].floats())
    values, scales = with_minima(packed)
    return nodes.add(
        "MatMulNBits", output,
        [
            extend(nodes, states, columns),
            nodes.weights.add(f"{name}.values", values),
            nodes.weights.add(f"{name}.scales", scales),
        ],
        K=columns + 2 * columns_of_sums(columns), N=len(values), bits=4, block_size=BLOCK,
        accuracy_level=_INTEGER_PRODUCTS,
    )  # fmt: skip


def with_minima(packed: Nibbles) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The operator's blocks of a matrix and of its minima.

    Returns:
        Values uint8 ``[rows, blocks, 16]``, two to a byte, the even one in its lower half; and scales float32
        ``[rows, blocks]``. Blocks are those of the matrix, of the minima, and of what the minima lack.
    """
    rows, count = packed.steps.shape
    missing = np.zeros((rows, columns_of_sums(count * BLOCK)), np.float32)
    missing[:, :count] = packed.minima + _CENTRE * packed.steps
    first, first_scales = _around_centre(missing)
    rest = missing - (first - np.float32(_CENTRE)).reshape(missing.shape) * np.repeat(first_scales, BLOCK, 1)
    second, second_scales = _around_centre(rest)
    return (
        _paired(np.concatenate([packed.values, first, second], axis=1)),
        np.concatenate([packed.steps, first_scales, second_scales], axis=1),
    )


def _rounded(blocks: Floats) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    """Values, steps and minima of ``[rows, blocks, 32]``."""
    minima = blocks.min(axis=2)
    spans = blocks.max(axis=2) - minima
    above = blocks - minima[..., None]
    best = np.full(spans.shape, np.inf, np.float32)
    steps = np.zeros_like(spans)
    for levels in _tried():
        step = spans / np.float32(levels)
        inverse = np.divide(1, step, out=np.zeros_like(step), where=step > 0)
        ratios = above * inverse[..., None]
        errors = np.square(ratios - np.rint(ratios)).sum(axis=2) * np.square(step)
        better = errors < best
        best[better], steps[better] = errors[better], step[better]
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps > 0)
    values = np.rint(above * inverse[..., None]).clip(0, _LEVELS).astype(np.uint8)
    return values, steps, minima


def _tried() -> Iterable[int]:
    return range(_LEVELS, _FEWEST_LEVELS - 1, -1)


def _around_centre(rows: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Values and scales of float32 ``[rows, columns]`` without minima: ``scale * (q - 8)``."""
    blocks = rows.reshape(len(rows), -1, BLOCK)
    scales = np.abs(blocks).max(axis=2) / np.float32(_LIMIT)
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales > 0)
    values = np.rint(blocks * inverse[..., None]).clip(-_LIMIT, _LIMIT) + _CENTRE
    return values.astype(np.uint8), scales


def _paired(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    paired = np.bitwise_or(values[..., ::2], values[..., 1::2] << np.uint8(4), dtype=np.uint8)
    return np.ascontiguousarray(paired)
