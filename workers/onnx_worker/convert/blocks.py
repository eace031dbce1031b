"""Matrices as 8-bit blocks: 32 neighbours of a row share one scale, ``w = scale * (q - 128)``.

The layout is that of ONNX Runtime's ``GatherBlockQuantized`` and ``MatMulNBits`` with ``bits=8`` and no zero
points: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes

BLOCK: Final = 32
"""Elements that share a scale."""

_OFFSET: Final = 128  # what an 8-bit GatherBlockQuantized subtracts from every q
_LIMIT: Final = 127  # largest magnitude of a quantised value
_ROUNDED_AT_ONCE: Final = 1 << 24
"""Elements: large vocabularies would take a gigabyte for each intermediate result."""
_INTEGER_PRODUCTS: Final = 4
"""``accuracy_level`` that lets inputs be rounded to bytes, a scale for each of their blocks."""


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


@dataclass(frozen=True, slots=True)
class StoredBlocks:
    """Names of a quantised matrix' initializers, and its size."""

    values: str
    scales: str
    rows: int
    columns: int


def quantise(matrix: npt.NDArray[np.float32]) -> Blocks:
    """Round float32 ``[rows, columns]``, columns a multiple of 32, to 8-bit blocks.

    No element moves by more than half its block's scale, which is the block's largest magnitude / 127.
    """
    rows, columns = matrix.shape
    values = np.empty((rows, columns // BLOCK, BLOCK), np.uint8)
    scales = np.empty((rows, columns // BLOCK), np.float32)
    panel = max(_ROUNDED_AT_ONCE // columns, 1)
    for start in range(0, rows, panel):
        part = slice(start, start + panel)
        _round(matrix[part].reshape(-1, *values.shape[1:]), values[part], scales[part])
    return Blocks(values, scales)


def store(nodes: Nodes, name: str, *parts: Matrix) -> StoredBlocks:
    """Write matrices, one below the other, as blocks that :func:`multiply` takes.

    Raises:
        UnsupportedModel: Their columns can't be cut into blocks.
    """
    return _store(nodes, name, parts)


def store_table(nodes: Nodes, name: str, table: Matrix) -> StoredBlocks:
    """Write a matrix as blocks that :func:`look_up` takes; its scales have an axis more.

    Raises:
        UnsupportedModel: Its columns can't be cut into blocks.
    """
    return _store(nodes, name, [table], further=(1,))


def as_factor(nodes: Nodes, table: StoredBlocks) -> StoredBlocks:
    """The same bytes of a table as blocks that :func:`multiply` takes."""
    shape = (table.rows, table.columns // BLOCK)
    return replace(table, scales=nodes.weights.alias(f"{table.scales}.flat", table.scales, shape))


def look_up(nodes: Nodes, output: str, ids: str, table: StoredBlocks) -> str:
    """Look int64 ``[batch, sequence]`` up in a table: float32 ``[batch, sequence, columns]``."""
    found = nodes.add(
        "GatherBlockQuantized", f"{output}.blocks", [table.values, ids, table.scales],
        gather_axis=0, quantize_axis=2, block_size=BLOCK, bits=8,
    )  # fmt: skip
    flat = nodes.weights.add(f"{output}.shape", np.array([0, 0, table.columns], dtype=np.int64))
    return nodes.add("Reshape", output, [found, flat])


def multiply(nodes: Nodes, output: str, states: str, matrix: StoredBlocks) -> str:
    """Multiply float32 ``[…, columns]`` by the transposed matrix: ``[…, rows]``."""
    return nodes.add(
        "MatMulNBits", output, [states, matrix.values, matrix.scales],
        K=matrix.columns, N=matrix.rows, bits=8, block_size=BLOCK, accuracy_level=_INTEGER_PRODUCTS,
    )  # fmt: skip


def _store(nodes: Nodes, name: str, parts: Sequence[Matrix], further: tuple[int, ...] = ()) -> StoredBlocks:
    """``further``: axes of the scales behind rows and blocks."""
    columns = parts[0].shape[1]
    if columns % BLOCK:
        what = f"{parts[0].name} has {columns} columns, which is no multiple of {BLOCK}"
        raise UnsupportedModel(f"{what}; int8 can't hold it, fp32 can")
    packed = quantise(np.concatenate([part.floats() for part in parts]) if parts[1:] else parts[0].floats())
    values = nodes.weights.add(f"{name}.values", packed.values)
    scales = nodes.weights.add(f"{name}.scales", packed.scales.reshape(*packed.scales.shape, *further))
    return StoredBlocks(values, scales, len(packed.values), columns)


def _round(
    blocks: npt.NDArray[np.float32], values: npt.NDArray[np.uint8], scales: npt.NDArray[np.float32]
) -> None:
    """Fill ``values`` and ``scales`` of some rows."""
    scales[:] = np.abs(blocks).max(axis=2) / np.float32(_LIMIT)
    steps = scales[:, :, None]
    ratios = np.divide(
        blocks, steps, out=np.zeros_like(blocks), where=steps > 0
    )  # a block of zeros has no scale
    values[:] = np.rint(ratios).clip(-_LIMIT, _LIMIT) + _OFFSET
