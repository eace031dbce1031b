"""The file that holds a graph's weights, written one tensor at a time.

ONNX external data: https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

ALIGNMENT: Final = 4096
"""Bytes that a tensor's offset is a multiple of, so that it can be memory-mapped by itself."""

INLINE_BYTES: Final = 1024
"""Tensors up to this many bytes stay inside the graph, where shape inference can see them."""


class WeightFile:
    """Writes tensors behind each other into one file and keeps the entries that refer to them.

    Args:
        path: The file, created anew. Must lie beside the graph.
    """

    def __init__(self, path: Path) -> None:
        self.initializers: list[TensorProto] = []
        self._path = path
        self._file = path.open("wb")
        self._regions: dict[str, tuple[int, int]] = {}  # tensor name -> offset and length in bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, name: str, values: npt.NDArray[Any]) -> str:
        """Write ``values`` as the initializer ``name``, and return that name."""
        values = np.ascontiguousarray(values)
        if values.nbytes <= INLINE_BYTES:
            self.initializers.append(numpy_helper.from_array(values, name))
            return name
        self._file.write(bytes(-self._file.tell() % ALIGNMENT))
        self._regions[name] = (self._file.tell(), values.nbytes)
        self._file.write(values.data)
        self._refer(name, helper.np_dtype_to_tensor_dtype(values.dtype), values.shape, self._regions[name])
        return name

    def alias(self, name: str, original: str, shape: tuple[int, ...]) -> str:
        """Add the initializer ``name``: the bytes of ``original``, not written again, in another shape."""
        source = next(entry for entry in self.initializers if entry.name == original)
        if original in self._regions:
            self._refer(name, source.data_type, shape, self._regions[original])
        else:
            values = numpy_helper.to_array(source).reshape(shape)
            self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def __contains__(self, name: str) -> bool:
        """Whether there is an initializer ``name``."""
        return any(tensor.name == name for tensor in self.initializers)

    def _refer(self, name: str, kind: int, shape: tuple[int, ...], region: tuple[int, int]) -> None:
        entry = TensorProto(name=name, data_type=kind, dims=shape, data_location=onnx.TensorProto.EXTERNAL)
        for key, value in (("location", self._path.name), ("offset", region[0]), ("length", region[1])):
            entry.external_data.add(key=key, value=str(value))
        self.initializers.append(entry)
