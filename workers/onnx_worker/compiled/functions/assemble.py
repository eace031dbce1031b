"""From the functions to an object file with one entry."""

from __future__ import annotations

import os
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.np import numpy_support

from workers.onnx_worker.compiled.functions.step import run
from workers.onnx_worker.compiled.shapes import ARGUMENTS, ENTRY

_TRIPLE: Final = "x86_64-unknown-linux-gnu"


def machine_code() -> bytes:
    """An ELF object whose one visible symbol, :data:`ENTRY`, takes the address of a table of arguments.

    Each argument has eight bytes there, in the order in which numba takes the parts of tuples and arrays
    apart, which :func:`workers.onnx_worker.compiled.team.flattened` follows.
    """
    signature = tuple(_type_of(kind) for kind in ARGUMENTS)
    run.compile(signature)
    ((_, compiled),) = run.overloads.items()
    module = llvm.parse_assembly(compiled.library.get_llvm_str())
    name = compiled.fndesc.llvm_func_name
    module.link_in(llvm.parse_assembly(_entry(name, module.get_function(name))))
    for part in (*module.functions, *module.global_variables):
        if not part.is_declaration and part.name != ENTRY:
            part.linkage = "internal"
    target = llvm.Target.from_triple(_TRIPLE)
    machine = target.create_target_machine(
        cpu=os.environ["NUMBA_CPU_NAME"],
        features=os.environ["NUMBA_CPU_FEATURES"],
        opt=3,
        reloc="static",
        codemodel="large",
    )
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    with llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options()) as builder:
        passes.run(module, builder)
    code: bytes = machine.emit_object(module)
    return code


def _entry(name: str, function: Any) -> str:
    """LLVM's assembly of a function that reads the arguments of another from a table."""
    kinds = [str(argument.type) for argument in function.arguments]
    lines = [
        f"declare i32 @{name}({', '.join(kinds)})",
        f"define void @{ENTRY}(ptr %table) {{",
        "%returned = alloca ptr",
        "%raised = alloca ptr",
    ]
    given = ["ptr %returned", "ptr %raised"]
    for number, kind in enumerate(kinds[len(given) :]):
        lines += [
            f"%place{number} = getelementptr i64, ptr %table, i64 {number}",
            f"%value{number} = load {kind}, ptr %place{number}",
        ]
        given.append(f"{kind} %value{number}")
    lines += [f"call i32 @{name}({', '.join(given)})", "ret void", "}"]
    return "\n".join(lines)


def _type_of(kind: Any) -> Any:
    """Numba's name of a number, of an array with so many axes, or of a tuple of them."""
    if get_origin(kind) is Annotated:
        array, axes = get_args(kind)
        return types.Array(numpy_support.from_dtype(np.dtype(get_args(get_args(array)[1])[0])), axes, "C")
    if hasattr(kind, "_fields"):
        hints = get_type_hints(kind, include_extras=True)
        return types.NamedTuple([_type_of(hints[field]) for field in kind._fields], kind)
    return {int: types.int64, bool: types.boolean, np.float32: types.float32}[kind]
