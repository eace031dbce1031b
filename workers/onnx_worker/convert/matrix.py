"""One weight matrix of the model that is converted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Matrix:
    """A tensor of two axes."""

    file: Tensors
    name: str
    seen: Callable[[str], None]
    """Called with the tensor's name whenever it is read."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs) and columns (inputs)."""
        rows, columns = self.file.shape(self.name)
        return rows, columns

    def floats(self) -> npt.NDArray[np.float32]:
        """Read the matrix as float32 ``[rows, columns]``."""
        self.seen(self.name)
        return self.file.floats(self.name)
