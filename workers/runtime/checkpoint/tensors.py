"""safetensors by memory map: https://github.com/huggingface/safetensors#format.

The library of that name gives numpy neither bfloat16, which most checkpoints are in, nor a map of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.settings import Settings

INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"

_HEADER_BYTES: Final = 8
_LONGEST_HEADER: Final = 100_000_000
_BITS: Final = 8

_STORED: Final[Mapping[str, npt.DTypeLike]] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16,
}  # fmt: skip
"""Types that can be turned into float32 -> how numpy sees their bytes."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor lies."""

    file: Path
    kind: str
    shape: tuple[int, ...]
    start: int
    """Bytes from the beginning of the file."""
    stored: npt.NDArray[np.uint8]
    """All bytes of the file, mapped."""


class TensorFolder:
    """All tensors of a checkpoint, in one file or in several with an index.

    Args:
        folder: Holds the files.
        entries: Tensor -> where it lies; ``None`` for all that the files hold.

    Raises:
        UnsupportedModel: A file is missing, or is no whole safetensors file.
        OSError: A file can't be opened.
    """

    def __init__(self, folder: Path, entries: Mapping[str, _Entry] | None = None) -> None:
        self.path = folder
        self._entries = _read_all(folder) if entries is None else entries

    @property
    def names(self) -> Sequence[str]:
        """Names of all tensors."""
        return tuple(self._entries)

    def renamed(self, names: Mapping[str, str]) -> TensorFolder:
        """Some of the tensors under other names.

        Args:
            names: New name -> name here.
        """
        return TensorFolder(self.path, {new: self._find(name) for new, name in names.items()})

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of tensor ``name``: rows (outputs) first."""
        return self._find(name).shape

    def kind(self, name: str) -> str:
        """The type that tensor ``name`` is stored in, as ``BF16``."""
        return self._find(name).kind

    def floats(self, name: str, rows: slice | npt.NDArray[Any] = slice(None)) -> npt.NDArray[np.float32]:
        """Tensor ``name``, or rows of it, as float32.

        Args:
            name: The tensor.
            rows: Those wanted, as an index of the first axis; only they are read.

        Raises:
            UnsupportedModel: There is no such tensor, or its type is none of floats.
        """
        entry = self._find(name)
        stored = _STORED.get(entry.kind)
        if stored is None:
            known = ", ".join(_STORED)
            raise UnsupportedModel(
                f"{entry.file.name}: tensor {name} is of type {entry.kind}; read are {known}"
            )
        count = math.prod(entry.shape)
        values = entry.stored[entry.start : entry.start + count * np.dtype(stored).itemsize]
        if entry.start % np.dtype(stored).itemsize:
            values = values.copy()
        whole = values.view(stored).reshape(entry.shape)
        part = whole[rows] if entry.shape else whole
        if entry.kind == "BF16":  # the upper half of a float32
            return (part.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return np.ascontiguousarray(part, dtype=np.float32)

    def _find(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise UnsupportedModel(f"{self.path.name} lacks the tensor {name}") from None


def _files(folder: Path) -> list[Path]:
    if not (folder / INDEX).is_file():
        return [folder / _SINGLE]
    mapping = Settings.read(folder / INDEX).require("weight_map", dict)
    names = sorted({str(name) for name in mapping.values()})
    if any(Path(name).name != name for name in names):
        raise UnsupportedModel(f"{INDEX} names files outside its folder")
    return [folder / name for name in names]


def _read_all(folder: Path) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for file in _files(folder):
        entries |= _read(file)
    return entries


def _read(file: Path) -> dict[str, _Entry]:
    if not file.is_file():
        raise UnsupportedModel(f"{file.parent.name} lacks {file.name}")
    try:
        stored = np.memmap(file, np.uint8, "r")
        begin = _HEADER_BYTES + _header_length(stored)
        header: dict[str, Any] = json.loads(stored[_HEADER_BYTES:begin].tobytes())
        tensors = {name: value for name, value in header.items() if name != "__metadata__"}
        return {name: _entry(file, begin, stored, value) for name, value in tensors.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"{file.name} is no safetensors file, or a truncated or damaged one: {error}"
        raise UnsupportedModel(message) from error


def _header_length(stored: npt.NDArray[np.uint8]) -> int:
    length = int.from_bytes(stored[:_HEADER_BYTES].tobytes(), "little")
    if length > min(_LONGEST_HEADER, len(stored) - _HEADER_BYTES):
        raise ValueError("it ends within its header")
    return length


def _entry(file: Path, begin: int, stored: npt.NDArray[np.uint8], value: Mapping[str, Any]) -> _Entry:
    shape, kind = tuple(int(size) for size in value["shape"]), str(value["dtype"])
    start, end = (begin + int(offset) for offset in value["data_offsets"])
    if min(shape, default=0) < 0 or not begin <= start <= end <= len(stored):
        raise ValueError("a tensor lies outside of the file")
    known = _STORED.get(kind)
    if known is not None and end - start != math.prod(shape) * np.dtype(known).itemsize:
        raise ValueError("a tensor has another length than its shape says")
    return _Entry(file, kind, shape, start, stored)
