"""Functions of single numbers that compilers turn into vector instructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types

from workers.onnx_worker.compiled.functions.assembly import FLOAT, Assembler, compiled, instruction

LOOSE: Final = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order; infinities and what is no number stay what they are."""


@instruction
def float_of_bits(context: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def generate(
        context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        return builder.bitcast(arguments[0], FLOAT)

    return types.float32(types.int32), generate


@instruction
def larger(context: Any, a: Any, b: Any) -> Any:
    """The larger of two float32, neither of which may be no number; the only form that becomes a vector's."""

    def generate(
        context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        return Assembler(builder).call("llvm.maxnum.f32", FLOAT, [FLOAT, FLOAT], arguments, ("nnan", "nsz"))

    return types.float32(types.float32, types.float32), generate


@compiled()
def largest(row: Any, count: Any) -> Any:
    """The largest of a row's first ``count`` numbers, at least one."""
    peak = row[0]
    for each in range(count):
        peak = larger(peak, row[each])
    return peak


@compiled()
def largest_magnitude(row: Any) -> Any:
    """The largest magnitude in a row."""
    peak = np.float32(0.0)
    for each in range(len(row)):
        peak = larger(peak, abs(row[each]))
    return peak


@compiled(inline="always")
def exponential(x: Any) -> Any:
    """``e ** x`` of a float32 to 2e-7 of it, for x from -87 to 88; beyond, as at these ends.

    ``2 ** n`` by its bits times a polynomial over half an octave (Cephes' ``expf``:
    https://www.netlib.org/cephes/).
    """
    x = min(max(x, np.float32(-87.0)), np.float32(88.0))
    whole = np.floor(x * np.float32(1.44269504) + np.float32(0.5))
    rest = x - whole * np.float32(0.693359375) + whole * np.float32(2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    power = float_of_bits((np.int32(whole) + np.int32(127)) << np.int32(23))
    return (series * rest * rest + rest + np.float32(1.0)) * power


@compiled(inline="always")
def to_byte(steps: Any) -> Any:
    """A number of steps as an unsigned byte around 128: rounded to even, cut at the ends."""
    return np.uint8(np.int32(min(max(np.rint(steps), np.float32(-128.0)), np.float32(127.0))) + np.int32(128))
