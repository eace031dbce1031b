"""A GGUF file: typed access to its metadata, and its tensors as float32 rows.

GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. The file is memory-mapped, so a tensor costs
memory only while it is being read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from diplex.errors import UnsupportedModel

Value = TypeVar("Value")


class _BoundedReader(gguf.GGUFReader):
    """A reader that refuses to read past the end of the file, where the base class returns fewer elements.

    Without it a damaged length makes the base class count to that length over nothing.
    """

    def _get(
        self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: Any = None
    ) -> npt.NDArray[Any]:
        if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
            message = f"it ends at byte {len(self.data)}, in the middle of its content"
            raise ValueError(message)
        return super()._get(int(offset), dtype, count, override_order)


class GgufFile:
    """One open GGUF file.

    Args:
        path: The file.

    Raises:
        UnsupportedModel: It is no GGUF file, or a truncated or damaged one.
        OSError: It can't be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = _BoundedReader(path)
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError) as error:
            message = f"{path.name} is no GGUF file that can be read, or a truncated or damaged one: {error}"
            raise UnsupportedModel(message) from error
        if self._reader.byte_order == "S":
            message = f"{path.name} is a big-endian GGUF file; only little-endian ones are supported"
            raise UnsupportedModel(message)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    @property
    def tensor_names(self) -> Sequence[str]:
        """Names of all tensors, in the order of the file."""
        return tuple(self._tensors)

    @property
    def keys(self) -> Sequence[str]:
        """Keys of the metadata, in the order of the file, without the reader's own ``GGUF.*``."""
        return tuple(key for key in self._reader.fields if not key.startswith("GGUF."))

    def get(self, key: str, kind: type[Value]) -> Value | None:
        """Return the metadata under ``key``, or ``None`` if there is none.

        Args:
            key: As ``llama.block_count``.
            kind: ``str``, ``int``, ``float``, ``bool`` or ``list``. An integer is accepted as a float.

        Raises:
            UnsupportedModel: The value has another type.
        """
        field = self._reader.fields.get(key)
        if field is None:
            return None
        try:
            value: Any = field.contents() if field.data or field.types[0] != gguf.GGUFValueType.ARRAY else []
        except (ValueError, IndexError) as error:
            message = f"{self.path.name}: the value of {key} can't be read: {error}"
            raise UnsupportedModel(message) from error
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            message = f"{self.path.name}: {key} should be of type {kind.__name__}, not {type(value).__name__}"
            raise UnsupportedModel(message)
        return value

    def require(self, key: str, kind: type[Value]) -> Value:
        """Return the metadata under ``key`` like :meth:`get`, which must be there."""
        value = self.get(key, kind)
        if value is None:
            message = f"{self.path.name} lacks {key}, which a model file must have"
            raise UnsupportedModel(message)
        return value

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name`` in numpy's order: rows (outputs) first."""
        return tuple(int(size) for size in reversed(self._find(name).shape))

    def floats(self, name: str, rows: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Return tensor ``name`` dequantised to float32, in its :meth:`shape`.

        Args:
            name: The tensor.
            rows: Those wanted.

        Raises:
            UnsupportedModel: There is no such tensor, or nothing can dequantise its type.
        """
        tensor = self._find(name)
        try:
            values = dequantize(tensor.data[rows], tensor.tensor_type)
        except NotImplementedError as error:
            message = (
                f"{self.path.name}: nothing dequantises {tensor.tensor_type.name}, the type of tensor {name}"
            )
            raise UnsupportedModel(message) from error
        return np.ascontiguousarray(values, dtype=np.float32).reshape(-1, *self.shape(name)[1:])

    def _find(self, name: str) -> gguf.ReaderTensor:
        try:
            return self._tensors[name]
        except KeyError:
            message = f"{self.path.name} lacks the tensor {name}"
            raise UnsupportedModel(message) from None
