"""The eyes of a model: a graph that turns a tile into rows of features, and the rows that it has made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.onnx_worker.session import open_session
from workers.runtime.artefact import EYES_FILE, ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.vision import FeatureRows, Idefics3, Preprocessor

_PIXELS: Final = "pixel_values"
_MASK: Final = "pixel_attention_mask"
_FEATURES: Final = "image_features"
_ONE_TILE: Final = 4
"""Axes of ``pixel_values`` in a graph that takes one tile: a published one has pictures as another axis."""


class OnnxEyes:
    """Encodes one tile a run; a :class:`workers.runtime.engine.backend.Eyes`.

    Args:
        graph: Our graph of the eyes, or a published ``vision_encoder``.
        description: The model.
        threads: That compute; 0 for one a usable core.

    Raises:
        UnsupportedModel: The graph takes or gives something else, or the model says nothing about its eyes.
    """

    def __init__(self, graph: Path, description: ModelDescription, *, threads: int) -> None:
        if description.vision is None:
            raise UnsupportedModel("there is a graph of eyes, but model.json says nothing about them")
        self._open = partial(open_session, graph, threads=threads)
        self._session = session = self._open()
        inputs = {value.name: value for value in session.get_inputs()}
        if not {_PIXELS} <= inputs.keys() <= {_PIXELS, _MASK}:
            raise UnsupportedModel(f"the eyes take {', '.join(inputs)} instead of {_PIXELS}")
        if _FEATURES not in {value.name for value in session.get_outputs()}:
            raise UnsupportedModel(f"the eyes give no {_FEATURES}")
        self._pictures_apart = len(inputs[_PIXELS].shape) > _ONE_TILE
        self._masked = _MASK in inputs
        self._width = description.hidden_size
        self._rows = FeatureRows(self._width)
        self.preprocessor: Final[Preprocessor] = Idefics3(description.vision)
        """See :class:`workers.runtime.engine.backend.Eyes`."""

    @property
    def row_bytes(self) -> int:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        return self._width * np.dtype(np.float32).itemsize

    def encode(self, ids: range, pixels: NDArray[np.float32]) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        tile = pixels[None] if self._pictures_apart else pixels
        feeds: dict[str, NDArray[Any]] = {_PIXELS: tile}
        if self._masked:
            feeds[_MASK] = np.ones((*tile.shape[:-3], *tile.shape[-2:]), np.bool_)
        (features,) = self._session.run([_FEATURES], feeds)
        if features.size != len(ids) * self._width:
            raise UnsupportedModel(
                f"the eyes make {features.size // self._width} rows of a tile, {len(ids)} were expected"
            )
        self._rows.put(ids, features)

    def forget(self, ids: range) -> None:
        """See :class:`workers.runtime.engine.backend.Eyes`."""
        self._rows.forget(ids)

    def trim(self) -> None:
        """Gives back what runs have left behind: the session keeps it for as long as it lives."""
        del self._session
        self._session = self._open()

    def gather(self, ids: list[int]) -> NDArray[np.float32]:
        """The rows that negative token ids name, float32 ``[ids, hidden]``."""
        return self._rows.gather(ids)


def open_eyes(description: ModelDescription, config: EngineConfig) -> OnnxEyes | None:
    """The eyes of a prepared artefact of ours; ``None`` for a model that takes text only."""
    if description.vision is None:
        return None
    return OnnxEyes(config.folder / EYES_FILE, description, threads=config.threads)
