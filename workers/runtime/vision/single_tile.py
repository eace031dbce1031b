"""Preprocessing of models that see a picture as one square: LLaVA 1.5, BLIP-2, Gemma 3, InternVL.

The same as ``CLIPImageProcessor``, ``BlipImageProcessor``, ``Gemma3ImageProcessor`` and
``GotOcr2ImageProcessor`` of transformers without tiles and crops, in Pillow and numpy.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL.Image import Image, Resampling

from diplex.errors import InvalidRequest
from workers.runtime.vision.description import VisionDescription
from workers.runtime.vision.levels import LevelTiles, normalised_levels
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Size

CROP: Final = "crop"
"""The shorter side is scaled to ``longest_edge``, and a square is cut out of the middle."""
SQUASH: Final = "squash"
"""Both sides are scaled to the square."""


class SingleTile:
    """Preprocesses.

    Args:
        description: The model's eyes, with a ``fit``.
    """

    def __init__(self, description: VisionDescription) -> None:
        self._of = description
        self._resample = Resampling(description.resample)
        self._levels = normalised_levels(description)

    def layout(self, size: Size, options: ImageOptions) -> Layout:  # noqa: ARG002  # all sizes stand alike
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`.

        Raises:
            InvalidRequest: The picture is to be split, or scaled to another size.
        """
        if options.split:
            raise InvalidRequest.of_field("image_options.split", "this model sees a picture as a whole")
        if options.longest_edge is not None:
            raise InvalidRequest.of_field(
                "image_options.longest_edge", "this model sees pictures at one size"
            )
        of = self._of
        return Layout(f"{of.before}{of.image_token * of.tile_rows}{of.behind}", (of.tile_rows,))

    def tiles(self, picture: Image, options: ImageOptions) -> LevelTiles:  # noqa: ARG002  # by the protocol
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`."""
        side = self._of.tile_size
        if self._of.fit == SQUASH:
            picture = picture.resize((side, side), self._resample)
        else:
            width, height = _scaled_to(Size(*picture.size), self._of.longest_edge)
            picture = picture.resize((width, height), self._resample)
            left, top = (width - side) // 2, (height - side) // 2
            picture = picture.crop((left, top, left + side, top + side))
        return LevelTiles([np.asarray(picture, np.uint8)], self._levels)


def _scaled_to(size: Size, shortest_edge: int) -> Size:
    """A size whose shorter side is so long; the longer is rounded down."""
    if size.width <= size.height:
        return Size(shortest_edge, int(shortest_edge * size.height / size.width))
    return Size(int(shortest_edge * size.width / size.height), shortest_edge)
