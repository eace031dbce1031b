"""Building blocks of the instructions in :mod:`.tiles` and :mod:`.threads`: LLVM's, for vectors of 512 bits.

All addresses and strides are int64, in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import llvmlite.binding as llvm
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

from workers.onnx_worker.compiled.shapes import LANES, VECTOR_BYTES

BYTE: Final = ir.IntType(8)
INT: Final = ir.IntType(32)
LONG: Final = ir.IntType(64)
FLOAT: Final = ir.FloatType()
INTS: Final = ir.VectorType(INT, LANES)
FLOATS: Final = ir.VectorType(FLOAT, LANES)
_BYTES_SINCE: Final = 22
FOURS: Final = INTS if llvm.llvm_version_info[0] < _BYTES_SINCE else ir.VectorType(BYTE, VECTOR_BYTES)
"""Four bytes a lane, as the dot product of bytes takes them; the type has another name since LLVM 22."""

compiled: Final[Any] = partial(njit, error_model="numpy", _nrt=False)
"""Decorates functions that are compiled: no exceptions, and no counting of references to arrays, which the
caller holds on to."""
instruction: Final[Any] = intrinsic
"""Decorates functions that write instructions; compiled ones call them without the context."""

_SECOND_CACHE: Final = 2
_LOOSE: Final = ("reassoc", "contract")


class Assembler:
    """Writes instructions at a place in a function that is being compiled."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self._builder = builder

    def long(self, value: int) -> ir.Value:
        """A constant int64."""
        return ir.Constant(LONG, value)

    def zeros(self) -> ir.Value:
        """A vector of float32."""
        return ir.Constant(FLOATS, [0.0] * LANES)

    def at(self, address: ir.Value, stride: ir.Value | int, number: ir.Value | int) -> ir.Value:
        """``address + stride * number``."""
        stride, number = (self.long(each) if isinstance(each, int) else each for each in (stride, number))
        return self._builder.add(address, self._builder.mul(stride, number))

    def load(self, address: ir.Value, kind: ir.Type, alignment: int = 4) -> ir.Value:
        """What lies at an address."""
        loaded = self._builder.load(self._builder.inttoptr(address, kind.as_pointer()))
        loaded.align = alignment
        return loaded

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Writes a value to an address."""
        self._builder.store(value, self._builder.inttoptr(address, value.type.as_pointer())).align = 4

    def fetch(self, address: ir.Value) -> None:
        """Brings a line into the second cache; an address that nothing is at does no harm."""
        pointer = BYTE.as_pointer()
        arguments = [
            self._builder.inttoptr(address, pointer),
            *(ir.Constant(INT, n) for n in (0, _SECOND_CACHE, 1)),
        ]
        self.call("llvm.prefetch.p0", ir.VoidType(), [pointer, INT, INT, INT], arguments)

    def spread(self, value: ir.Value, kind: ir.VectorType) -> ir.Value:
        """A vector with the same number in all lanes."""
        one = self._builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT, 0))
        return self._builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * LANES))

    def multiply_add(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """``a * b + c`` of vectors of float32, rounded once."""
        return self.call("llvm.fma.v16f32", FLOATS, [FLOATS] * 3, [a, b, c])

    def total(self, vector: ir.Value) -> ir.Value:
        """The sum of a vector of float32, in any order."""
        arguments = [ir.Constant(FLOAT, 0.0), vector]
        return self.call("llvm.vector.reduce.fadd.v16f32", FLOAT, [FLOAT, FLOATS], arguments, _LOOSE)

    def call(
        self,
        name: str,
        result: ir.Type,
        kinds: Sequence[ir.Type],
        arguments: Sequence[ir.Value],
        flags: Sequence[str] = (),
    ) -> ir.Value:
        """Calls one of LLVM's own functions."""
        module = self._builder.module
        function = module.globals.get(name) or ir.Function(module, ir.FunctionType(result, kinds), name)
        return self._builder.call(function, arguments, fastmath=flags)

    def loop(
        self,
        count: ir.Value,
        first: Sequence[ir.Value],
        body: Callable[[ir.Value, list[ir.Value]], list[ir.Value]],
    ) -> list[ir.Value]:
        """``count`` rounds, at least one, that hand values on from each to the next; returns the last's."""
        builder = self._builder
        before = builder.block
        around, behind = builder.append_basic_block("round"), builder.append_basic_block("behind")
        builder.branch(around)
        builder.position_at_end(around)
        step = builder.phi(LONG)
        step.add_incoming(self.long(0), before)
        held = [builder.phi(value.type) for value in first]
        for each, value in zip(held, first, strict=True):
            each.add_incoming(value, before)
        new = body(step, held)
        following = builder.add(step, self.long(1))
        step.add_incoming(following, around)
        for each, value in zip(held, new, strict=True):
            each.add_incoming(value, around)
        builder.cbranch(builder.icmp_signed("<", following, count), around, behind)
        builder.position_at_end(behind)
        return new

    def for_one_of(self, number: ir.Value, choices: Sequence[int], body: Callable[[int], None]) -> None:
        """Code for each of some numbers, of which the one that ``number`` is runs."""
        builder = self._builder
        blocks = [builder.append_basic_block(f"for_{choice}") for choice in choices]
        behind = builder.append_basic_block("behind")
        switch = builder.switch(number, blocks[0])
        for choice, block in zip(choices, blocks, strict=True):
            switch.add_case(self.long(choice), block)
            builder.position_at_end(block)
            body(choice)
            builder.branch(behind)
        builder.position_at_end(behind)
