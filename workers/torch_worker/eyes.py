"""The eyes of a model: tiles become rows of features, which are kept until nobody needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.runtime.artefact import ModelDescription
from workers.runtime.vision import FeatureRows, Preprocessor, preprocessor_of
from workers.runtime.vision.grid import GRID, in_patches


class TorchEyes:
    """Encodes one tile a run; a :class:`workers.runtime.engine.backend.Eyes`.

    Args:
        model: Of transformers, with ``get_image_features``.
        description: The model.
        device: Where it computes.
        dtype: What it computes with.
    """

    def __init__(
        self, model: Any, description: ModelDescription, device: torch.device, dtype: torch.dtype
    ) -> None:
        if description.vision is None:
            raise UnsupportedModel("model.json says nothing about the model's eyes")
        self._model = model
        self._vision = description.vision
        self._device = device
        self._dtype = dtype
        self._width = description.hidden_size * description.vision.layers
        self._places: dict[int, tuple[int, int]] = {}  # id -> row and column of a grid
        self._rows = FeatureRows(self._width)
        self.preprocessor: Final[Preprocessor] = preprocessor_of(description.vision)
        """See :class:`workers.runtime.engine.backend.Eyes`."""

    @property
    def row_bytes(self) -> int:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        return self._width * np.dtype(np.float32).itemsize

    @torch.inference_mode()
    def encode(self, ids: range, pixels: NDArray[np.float32]) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        features = self._seen_as_grid(ids, pixels) if self._vision.fit == GRID else self._seen(pixels)
        if features.numel() != len(ids) * self._width:
            raise UnsupportedModel(
                f"the eyes make {features.numel() // self._width} rows of a tile, {len(ids)} were expected"
            )
        self._rows.put(ids, features.float().cpu().numpy())

    def forget(self, ids: range) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        self._rows.forget(ids)
        for token in ids:
            self._places.pop(token, None)

    def gather(self, ids: Sequence[int]) -> list[torch.Tensor]:
        """The rows that negative token ids name, ``[ids, hidden]``; behind them those for further layers."""
        rows = torch.from_numpy(self._rows.gather(ids)).to(self._device, self._dtype)
        return list(rows.chunk(self._vision.layers, dim=1))

    def place(self, token: int) -> tuple[int, int]:
        """The row and column of a grid whose features a negative token id names."""
        return self._places[token]

    def _seen(self, pixels: NDArray[np.float32]) -> torch.Tensor:
        tile = self._tensor(pixels)
        # Only Idefics3 has another dimension, for several tiles of a picture.
        seen = self._model.get_image_features(pixel_values=tile if self._vision.fit else tile[None])
        return torch.cat(list(seen.pooler_output))

    def _seen_as_grid(self, ids: range, pixels: NDArray[np.float32]) -> torch.Tensor:
        patches, squares = in_patches(pixels, self._vision)
        each = self._vision.tile_size // self._vision.patch
        grid = torch.tensor([[1, squares.height * each, squares.width * each]], device=self._device)
        seen = self._model.get_image_features(pixel_values=self._tensor(patches), image_grid_thw=grid)
        self._places.update((token, divmod(index, squares.width)) for index, token in enumerate(ids))
        further = getattr(seen, "deepstack_features", None) or ()
        return torch.cat([torch.cat(list(rows)) for rows in (seen.pooler_output, *further)], dim=1)

    def _tensor(self, pixels: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device, self._dtype)
