"""The eyes of a model: tiles become rows of features, which are kept until nobody needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.runtime.artefact import ModelDescription
from workers.runtime.vision import FeatureRows, Idefics3, Preprocessor


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
        self._device = device
        self._dtype = dtype
        self._width = description.hidden_size
        self._rows = FeatureRows(self._width)
        self.preprocessor: Final[Preprocessor] = Idefics3(description.vision)
        """See :class:`workers.runtime.engine.backend.Eyes`."""

    @property
    def row_bytes(self) -> int:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        return self._width * np.dtype(np.float32).itemsize

    @torch.inference_mode()
    def encode(self, ids: range, pixels: NDArray[np.float32]) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        tile = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device, self._dtype)
        seen = self._model.get_image_features(pixel_values=tile[None])
        features = torch.cat(list(seen.pooler_output))
        if features.numel() != len(ids) * self._width:
            raise UnsupportedModel(
                f"the eyes make {features.numel() // self._width} rows of a tile, {len(ids)} were expected"
            )
        self._rows.put(ids, features.float().cpu().numpy())

    def forget(self, ids: range) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        self._rows.forget(ids)

    def gather(self, ids: Sequence[int]) -> torch.Tensor:
        """The rows that negative token ids name, ``[ids, hidden]``."""
        return torch.from_numpy(self._rows.gather(ids)).to(self._device, self._dtype)
