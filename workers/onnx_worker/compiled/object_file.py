"""Machine code out of an object file, put into memory.

The file is an ELF object of the System V ABI for x86-64 (https://gitlab.com/x86-psABIs/x86-64-ABI): sections
that are put into memory, and places in them where addresses have to be written.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.shapes import ENTRY

Entry = Callable[[NDArray[np.int64]], None]
"""Takes a table of arguments, 64 bits each, and lets other threads run meanwhile."""

_ALLOCATED: Final = 0x2  # SHF_ALLOC
_NO_BITS: Final = 8  # SHT_NOBITS
_RELOCATIONS: Final = 4  # SHT_RELA
_SYMBOLS: Final = 2  # SHT_SYMTAB
_ABSOLUTE: Final = 1  # R_X86_64_64
_RELATIVE: Final = 24  # R_X86_64_PC64
_EXECUTABLE: Final = mmap.PROT_READ | mmap.PROT_EXEC
_OUTSIDE: Final = ("memcpy", "memset", "sched_yield")
"""Functions of the C library that the code calls."""


def load(file: Path) -> Entry:
    """The entry of an object file.

    Raises:
        OSError: The file can't be read, or memory that may be executed can't be had.
        ValueError: The file is none of ours, or damaged.
    """
    try:
        return _Loaded(file.read_bytes())
    except (struct.error, IndexError) as error:
        raise ValueError(f"{file} is damaged: {error}") from error


class _Section(NamedTuple):
    """An entry of the table of sections, in its order."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Loaded:
    """An object file in memory; lives as long as its entry is called."""

    def __init__(self, file: bytes) -> None:
        if not file.startswith(b"\x7fELF"):
            raise ValueError("machine code is no ELF object")
        (table,) = struct.unpack_from("<Q", file, 40)
        (count,) = struct.unpack_from("<H", file, 60)
        self._file = file
        self._found = 0
        entries = struct.iter_unpack("<IIQQQQIIQQ", file[table : table + 64 * count])
        self._sections = [_Section(*entry) for entry in entries]
        self._places = self._laid_out()
        self._symbols = self._resolved()
        if not self._found:
            raise ValueError(f"machine code has no {ENTRY}")
        for section in self._sections:
            if section.kind == _RELOCATIONS and section.info in self._places:
                self._relocate(section, self._places[section.info])
        address, size = ctypes.addressof(ctypes.c_char.from_buffer(self._memory)), len(self._memory)
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), size, _EXECUTABLE):
            raise OSError(ctypes.get_errno(), "memory for machine code can't be made executable")
        self._entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._found)

    def __call__(self, table: NDArray[np.int64]) -> None:
        self._entry(table.ctypes.data)

    def _laid_out(self) -> dict[int, int]:
        """Number of each section that is needed in memory -> where it begins there."""
        places, end = {}, 0
        for number, section in enumerate(self._sections):
            if section.flags & _ALLOCATED:
                places[number] = end = -(-end // max(section.alignment, 1)) * max(section.alignment, 1)
                end += section.size
        self._memory = mmap.mmap(-1, end or 1)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        for number, place in places.items():
            section = self._sections[number]
            if section.kind != _NO_BITS:
                part = self._file[section.offset : section.offset + section.size]
                if len(part) < section.size:
                    raise ValueError("machine code ends too soon")
                self._memory[place : place + section.size] = part
        return places

    def _resolved(self) -> list[int]:
        """Addresses of all symbols, 0 for those that nothing needs."""
        (table,) = (section for section in self._sections if section.kind == _SYMBOLS)
        names = self._sections[table.link].offset
        library, symbols = ctypes.CDLL(None), []
        for start in range(table.offset, table.offset + table.size, table.entry_size):
            name_offset, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", self._file, start)
            name = self._file[names + name_offset :].split(b"\0", 1)[0].decode()
            if section in self._places:
                value += self._base + self._places[section]
            elif name in _OUTSIDE:
                value = ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
            if name == ENTRY:
                self._found = value
            symbols.append(value)
        return symbols

    def _relocate(self, relocations: _Section, target: int) -> None:
        """Writes the addresses that a section needs."""
        end = relocations.offset + relocations.size
        for start in range(relocations.offset, end, relocations.entry_size):
            offset, info, addend = struct.unpack_from("<QQq", self._file, start)
            symbol, kind = info >> 32, info & 0xFFFFFFFF
            if kind not in {_ABSOLUTE, _RELATIVE} or not self._symbols[symbol]:
                raise ValueError(f"machine code needs what is not there (relocation {kind}, symbol {symbol})")
            value = self._symbols[symbol] + addend
            if kind == _RELATIVE:
                value -= self._base + target + offset
            struct.pack_into("<Q", self._memory, target + offset, value & 0xFFFFFFFFFFFFFFFF)
