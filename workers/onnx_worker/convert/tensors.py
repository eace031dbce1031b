"""Where a graph's tensors come from: a model file, or a model that is equivalent to it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Tensors(Protocol):
    """Named tensors, as :func:`~workers.onnx_worker.convert.layout.tensor_shapes` lists them."""

    @property
    def path(self) -> Path:
        """The file that they come from."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of tensor ``name``, rows (outputs) first."""

    def floats(self, name: str) -> npt.NDArray[np.float32]:
        """Return tensor ``name`` as float32 in its :meth:`shape`."""
