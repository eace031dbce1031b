"""One weight matrix of the source file, read in whichever form a precision wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert import blocks
from workers.onnx_worker.convert.blocks import Blocks
from workers.onnx_worker.convert.gguf_file import GgufFile


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor of a GGUF file, with its rows put in another order if need be."""

    file: GgufFile
    name: str
    seen: Callable[[str], None]
    """Called with the tensor's name whenever it is read."""
    order: npt.NDArray[np.intp] | None = None
    """Row i of the matrix is row ``order[i]`` of the tensor; ``None`` for as it is."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs)."""
        rows, columns = self.file.shape(self.name)
        return rows, columns

    def floats(self) -> npt.NDArray[np.float32]:
        """Read the matrix as float32 ``[rows, columns]``."""
        self.seen(self.name)
        return self._ordered(self.file.floats(self.name))

    def blocks(self) -> Blocks:
        """Read the matrix as 8-bit blocks: exactly if it is stored as Q8_0, else rounded.

        Raises:
            UnsupportedModel: The columns don't divide into blocks of 32.
        """
        if self.shape[1] % blocks.BLOCK:
            message = (
                f"{self.file.path.name}: tensor {self.name} has {self.shape[1]} columns, no multiple of "
                f"{blocks.BLOCK}; int8 can't hold it, fp32 can"
            )
            raise UnsupportedModel(message)
        if self.file.kind(self.name) == gguf.GGMLQuantizationType.Q8_0:
            self.seen(self.name)
            return blocks.from_q8_0(self._ordered(self.file.raw(self.name)))
        return blocks.quantise(self.floats())

    def _ordered(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return rows if self.order is None else rows[self.order]
