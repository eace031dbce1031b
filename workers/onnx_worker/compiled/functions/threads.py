"""What threads need to share work: numbers that all see change in one order, and ways to wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from workers.onnx_worker.compiled.functions.assembly import LONG, Assembler, instruction

yield_core = types.ExternalFunction("sched_yield", types.int32())
"""Let another thread have the core: ``sched_yield(2)``."""


@instruction
def add_atomically(context: Any, address: Any, amount: Any) -> Any:
    """Add to the int64 at an address; returns what it was before."""

    def generate(
        context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        address, amount = arguments
        return builder.atomic_rmw("add", builder.inttoptr(address, LONG.as_pointer()), amount, "seq_cst")

    return types.int64(types.int64, types.int64), generate


@instruction
def load_atomically(context: Any, address: Any) -> Any:
    """The int64 at an address, and with it all that was written before it was."""

    def generate(
        context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        return builder.load_atomic(builder.inttoptr(arguments[0], LONG.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@instruction
def pause(context: Any) -> Any:
    """Tell the processor that a loop waits."""

    def generate(
        context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        Assembler(builder).call("llvm.x86.sse2.pause", ir.VoidType(), [], [])
        return context.get_dummy_value()

    return types.void(), generate
