"""What the inner loops are made of: small pieces of products that stay in registers.

All are functions of int64: counts, and addresses and strides in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types

from workers.onnx_worker.compiled.functions.assembly import (
    FLOAT,
    FLOATS,
    FOURS,
    INT,
    INTS,
    Assembler,
    instruction,
)
from workers.onnx_worker.compiled.shapes import DOT_COLUMNS, DOT_ROWS, LANES, VECTOR_BYTES

TILE_ROWS: Final = 8
"""Rows of bytes in a tile at most: with two blocks, 16 sums, which leaves half of the registers."""
TILE_BLOCKS: Final = 2
SUM_ROWS: Final = (4, 2, 1)
"""Rows of weighted sums that there is code for."""
SUM_VECTORS: Final = (4, 1)
"""Vectors of their columns."""

Values = Sequence[ir.Value]


@instruction
def byte_tile(
    context: Any, rows: Any, row: Any, row_stride: Any, block: Any, block_stride: Any, fours: Any,
    starts: Any, scales: Any, factors: Any, addend: Any, addend_stride: Any, result: Any,
    result_stride: Any, ahead: Any,
) -> Any:  # fmt: skip
    """Up to 8 rows of bytes by 32 outputs: ``sums * scales * factors + addend``; the sums are exact.

    The dot product of four bytes a lane is that of AVX-512 VNNI (Intel's manual, ``VPDPBUSD``).

    Args:
        context: The compiler's.
        rows: 1 to 8.
        row: Unsigned bytes, a row every ``row_stride``.
        row_stride: See ``row``.
        block: Signed bytes ``[fours, 16, 4]``, twice: a block every ``block_stride``.
        block_stride: See ``block``.
        fours: Inputs / 4.
        starts: int32 ``[32]`` that the sums begin with.
        scales: float32 ``[32]``.
        factors: float32 ``[rows]``.
        addend: float32 ``[rows, 32]``, a row every ``addend_stride``.
        addend_stride: See ``addend``.
        result: Like ``addend``, and may be the same.
        result_stride: See ``result``.
        ahead: Laid out like ``block``; fetched into the cache.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Values) -> ir.Value:
        rows, *rest = arguments
        write = Assembler(builder)
        write.for_one_of(rows, range(1, TILE_ROWS + 1), lambda count: _byte_tile(builder, write, count, rest))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 14), generate


def _byte_tile(builder: ir.IRBuilder, write: Assembler, rows: int, arguments: Values) -> None:
    row, row_stride, block, block_stride, fours, starts, scales, *rest = arguments
    factors, addend, addend_stride, result, result_stride, ahead = rest

    def body(step: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        weights = []
        for each in range(TILE_BLOCKS):
            offset = write.at(write.at(write.long(0), block_stride, each), VECTOR_BYTES, step)
            weights.append(write.load(builder.add(block, offset), FOURS, VECTOR_BYTES))
            write.fetch(builder.add(ahead, offset))
        new = []
        for each in range(rows):
            four = write.spread(write.load(write.at(write.at(row, row_stride, each), 4, step), INT), INTS)
            four = builder.bitcast(four, FOURS)
            for other in range(TILE_BLOCKS):
                operands = [held[each * TILE_BLOCKS + other], four, weights[other]]
                new.append(write.call("llvm.x86.avx512.vpdpbusd.512", INTS, [INTS, FOURS, FOURS], operands))
        return new

    first = [write.load(write.at(starts, VECTOR_BYTES, each), INTS) for each in range(TILE_BLOCKS)]
    sums = write.loop(fours, first * rows, body)
    steps = [write.load(write.at(scales, VECTOR_BYTES, each), FLOATS) for each in range(TILE_BLOCKS)]
    for each in range(rows):
        factor = write.spread(write.load(write.at(factors, 4, each), FLOAT), FLOATS)
        for other in range(TILE_BLOCKS):
            total = builder.sitofp(sums[each * TILE_BLOCKS + other], FLOATS)
            more = write.load(write.at(write.at(addend, addend_stride, each), VECTOR_BYTES, other), FLOATS)
            place = write.at(write.at(result, result_stride, each), VECTOR_BYTES, other)
            write.store(write.multiply_add(total, builder.fmul(steps[other], factor), more), place)


@instruction
def float_dots(
    context: Any, rows: Any, row: Any, row_stride: Any, column: Any, column_stride: Any, vectors: Any,
    dots: Any, dots_stride: Any, ahead: Any,
) -> Any:  # fmt: skip
    """All dot products of up to 4 rows with 4 columns of floats.

    Args:
        context: The compiler's.
        rows: 1 to 4.
        row: float32 ``[rows, 16 * vectors]``, a row every ``row_stride``.
        row_stride: See ``row``.
        column: Likewise, 4 of them.
        column_stride: See ``column``.
        vectors: Floats of each / 16.
        dots: float32 ``[rows, 4]``, a row every ``dots_stride``.
        dots_stride: See ``dots``.
        ahead: Laid out like ``column``; fetched into the cache.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Values) -> ir.Value:
        rows, *rest = arguments
        write = Assembler(builder)
        write.for_one_of(rows, range(1, DOT_ROWS + 1), lambda count: _float_dots(write, count, rest))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 9), generate


def _float_dots(write: Assembler, rows: int, arguments: Values) -> None:
    row, row_stride, column, column_stride, vectors, dots, dots_stride, ahead = arguments

    def part(address: ir.Value, stride: ir.Value, number: int, step: ir.Value) -> ir.Value:
        return write.at(write.at(address, stride, number), VECTOR_BYTES, step)

    def body(step: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        left = [write.load(part(row, row_stride, each, step), FLOATS) for each in range(rows)]
        right = [write.load(part(column, column_stride, each, step), FLOATS) for each in range(DOT_COLUMNS)]
        for each in range(DOT_COLUMNS):
            write.fetch(part(ahead, column_stride, each, step))
        pairs = [(a, b) for a in left for b in right]
        return [write.multiply_add(a, b, sums) for (a, b), sums in zip(pairs, held, strict=True)]

    sums = write.loop(vectors, [write.zeros()] * (rows * DOT_COLUMNS), body)
    for each in range(rows):
        for other in range(DOT_COLUMNS):
            place = write.at(write.at(dots, dots_stride, each), 4, other)
            write.store(write.total(sums[each * DOT_COLUMNS + other]), place)


@instruction
def float_sums(
    context: Any, rows: Any, vectors: Any, weight: Any, weight_stride: Any, vector: Any, vector_stride: Any,
    count: Any, sums: Any, sums_stride: Any, ahead: Any,
) -> Any:  # fmt: skip
    """Weighted sums of ``count`` vectors of floats, one for each of some rows of weights.

    Args:
        context: The compiler's.
        rows: 4, 2 or 1.
        vectors: Columns / 16: 4 or 1.
        weight: float32 ``[rows, count]``, a row every ``weight_stride``.
        weight_stride: See ``weight``.
        vector: float32 ``[count, 16 * vectors]``, one every ``vector_stride``.
        vector_stride: See ``vector``.
        count: How many.
        sums: float32 ``[rows, 16 * vectors]``, a row every ``sums_stride``.
        sums_stride: See ``sums``.
        ahead: Laid out like ``vector``; fetched into the cache.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Values) -> ir.Value:
        rows, vectors, *rest = arguments
        write = Assembler(builder)

        def of_rows(height: int) -> None:
            write.for_one_of(vectors, SUM_VECTORS, lambda width: _float_sums(write, height, width, rest))

        write.for_one_of(rows, SUM_ROWS, of_rows)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 10), generate


def _float_sums(write: Assembler, rows: int, vectors: int, arguments: Values) -> None:
    weight, weight_stride, vector, vector_stride, count, sums, sums_stride, ahead = arguments

    def body(step: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
        place, following = write.at(vector, vector_stride, step), write.at(ahead, vector_stride, step)
        parts = [write.load(write.at(place, VECTOR_BYTES, each), FLOATS) for each in range(vectors)]
        for each in range(vectors):
            write.fetch(write.at(following, VECTOR_BYTES, each))
        new = []
        for each in range(rows):
            factor = write.load(write.at(write.at(weight, weight_stride, each), 4, step), FLOAT)
            factor = write.spread(factor, FLOATS)
            so_far = held[each * vectors : (each + 1) * vectors]
            new += [write.multiply_add(factor, part, old) for part, old in zip(parts, so_far, strict=True)]
        return new

    totals = write.loop(count, [write.zeros()] * (rows * vectors), body)
    for each in range(rows):
        for other in range(vectors):
            place = write.at(write.at(sums, sums_stride, each), VECTOR_BYTES, other)
            write.store(totals[each * vectors + other], place)


@instruction
def turn_tile(context: Any, source: Any, source_stride: Any, target: Any, target_stride: Any) -> Any:
    """Transpose 16 by 16 floats: off-diagonal halves change places, then quarters, and so on.

    Eklundh, "A fast computer method for matrix transposing", 1972, https://doi.org/10.1109/T-C.1972.223584.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Values) -> ir.Value:
        source, source_stride, target, target_stride = arguments
        write = Assembler(builder)
        rows = [write.load(write.at(source, source_stride, row), FLOATS) for row in range(LANES)]
        half = LANES // 2
        while half:
            upper = [lane if not lane & half else LANES + lane - half for lane in range(LANES)]
            lower = [lane + half if not lane & half else LANES + lane for lane in range(LANES)]
            for row in range(LANES):
                if not row & half:
                    a, b = rows[row], rows[row + half]
                    rows[row] = builder.shuffle_vector(a, b, ir.Constant(INTS, upper))
                    rows[row + half] = builder.shuffle_vector(a, b, ir.Constant(INTS, lower))
            half //= 2
        for row in range(LANES):
            write.store(rows[row], write.at(target, target_stride, row))
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@instruction
def copy_floats(context: Any, source: Any, target: Any, vectors: Any) -> Any:
    """Copy ``vectors`` times 16 floats."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Values) -> ir.Value:
        source, target, vectors = arguments
        write = Assembler(builder)

        def body(step: ir.Value, held: list[ir.Value]) -> list[ir.Value]:
            write.store(
                write.load(write.at(source, VECTOR_BYTES, step), FLOATS), write.at(target, VECTOR_BYTES, step)
            )
            return held

        write.loop(vectors, [], body)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
