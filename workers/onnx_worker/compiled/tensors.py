"""Where the weights of a graph of integer rows lie, written by the converter for :mod:`.weights`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.shapes import LANES, WIDTH, Sizes, layer_matrices
from workers.runtime.artefact import WEIGHTS_FILE

TENSORS_FILE: Final = "tensors.json"


class Tensors:
    """The weights of a prepared model by their names in its graph.

    Args:
        folder: The prepared artefact, with :data:`TENSORS_FILE`.
    """

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / TENSORS_FILE).read_text(encoding="utf-8"))
        self.shape: Final[dict[str, Any]] = content["shape"]
        """Sizes and constants of the model, as the converter names them."""
        self._tensors: dict[str, dict[str, Any]] = content["tensors"]
        self._weights = folder / WEIGHTS_FILE

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> NDArray[Any]:
        """A tensor, read from the file."""
        entry = self._tensors[name]
        if "values" in entry:
            return np.array(entry["values"], entry["dtype"]).reshape(entry["shape"])
        count = math.prod(entry["shape"])
        return np.fromfile(self._weights, entry["dtype"], count, offset=entry["offset"]).reshape(
            entry["shape"]
        )

    def mapped(self, name: str) -> NDArray[Any]:
        """A tensor that is read as far as it is used."""
        entry = self._tensors[name]
        if "values" in entry:
            return self[name]
        mapped = np.memmap(
            self._weights, entry["dtype"], mode="r", offset=entry["offset"], shape=tuple(entry["shape"])
        )
        return mapped.view(np.ndarray)

    def number(self, name: str) -> np.float32:
        """A constant."""
        return np.float32(self[name].reshape(-1)[0])


def sizes_of(tensors: Tensors) -> Sizes:
    """A model's sizes."""
    shape = tensors.shape
    return Sizes(
        layers=shape["layers"],
        hidden=shape["hidden"],
        feed_forward=shape["feed_forward"],
        heads=shape["heads"],
        kv_heads=shape["kv_heads"],
        head_dim=shape["head_dim"],
        vocabulary=-(-shape["vocab"] // WIDTH) * WIDTH,
        mixed=len(tensors["mixing"]),
    )


def fit(sizes: Sizes) -> bool:
    """Whether a model's sizes are multiples of what the compiled functions work on."""
    widths = [size for matrix in layer_matrices(sizes) for size in matrix]
    return not any(size % WIDTH for size in widths) and not any(
        size % LANES for size in (sizes.head_dim, sizes.mixed)
    )


def write_tensors(folder: Path, shape: dict[str, Any], tensors: dict[str, dict[str, Any]]) -> None:
    """Write :data:`TENSORS_FILE`.

    Args:
        folder: The prepared artefact.
        shape: Sizes and constants of the model.
        tensors: Name -> ``dtype`` and ``shape``, and the ``offset`` in the weights' file or, for a
            small one, its ``values``.
    """
    text = json.dumps({"shape": shape, "tensors": tensors}, indent=1)
    (folder / TENSORS_FILE).write_text(text + "\n", encoding="utf-8")
