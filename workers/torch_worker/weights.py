"""A prepared artefact's tensors: written in files of bounded size, read by memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

WEIGHT_FILES: Final = "weights-*.safetensors"
_FILE_BYTES: Final = 256 * 2**20


class WeightWriter:
    """Collects tensors and writes a file whenever enough have come together.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tensors: dict[str, torch.Tensor] = {}
        self._bytes = 0
        self._files = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        """Takes a tensor in."""
        self._tensors[name] = tensor.detach().contiguous()
        self._bytes += tensor.nbytes
        if self._bytes >= _FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what isn't written yet."""
        if self._tensors:
            self._files += 1
            # Shared storage is no matter here: each tensor is written by itself.
            save_file(self._tensors, self._folder / f"weights-{self._files:04}.safetensors")
        self._tensors, self._bytes = {}, 0


def mapped_weights(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors by name, as views of the mapped files: what isn't read takes no memory."""
    for file in sorted(folder.glob(WEIGHT_FILES)):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # no mapping
                yield name, tensors.get_tensor(name)
