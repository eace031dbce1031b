"""Preprocessing of models that see a picture in its own shape, as a grid of patches: Qwen2-VL and later.

The same as ``Qwen2VLImageProcessor`` of transformers, in Pillow and numpy. A picture is scaled so that both
sides are multiples of a square's, and has pixels between two bounds. A square becomes one row of features.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from diplex.errors import InvalidRequest
from workers.runtime.vision.description import VisionDescription
from workers.runtime.vision.levels import LevelTiles, normalised_levels
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Size

GRID: Final = "grid"
"""The ``fit`` of a picture that keeps its shape."""
_MOST_RATIO: Final = 200
"""How many times as long as wide a picture is that the reference takes, at most."""


class PatchGrid:
    """Preprocesses.

    Args:
        description: The model's eyes, with ``GRID`` as their ``fit``.
    """

    def __init__(self, description: VisionDescription) -> None:
        self._of = description
        self._resample = Resampling(description.resample)
        self._levels = normalised_levels(description)

    def layout(self, size: Size, options: ImageOptions) -> Layout:
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`.

        Raises:
            InvalidRequest: The picture is to be split, or made larger than is seen; or it is a mere line.
        """
        if options.split:
            raise InvalidRequest.of_field("image_options.split", "this model sees a picture as a whole")
        width, height = self._scaled(size, options)
        rows = (width // self._of.tile_size) * (height // self._of.tile_size)
        return Layout(self._of.image_token * rows, (rows,))

    def tiles(self, picture: Image, options: ImageOptions) -> LevelTiles:
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`; the picture is the only one."""
        scaled = picture.resize(self._scaled(Size(*picture.size), options), self._resample)
        return LevelTiles([np.asarray(scaled, np.uint8)], self._levels)

    def _scaled(self, size: Size, options: ImageOptions) -> Size:
        """What a picture is scaled to: ``smart_resize`` of the reference."""
        if max(size) > _MOST_RATIO * min(size):
            raise InvalidRequest.of_field(
                "chat",
                f"an image has {size.width} x {size.height} pixels; this model sees none with one side more "
                f"than {_MOST_RATIO} times the other",
            )
        square, most = self._of.tile_size, self._most_pixels(size, options)
        width, height = (round(side / square) * square for side in size)
        pixels = size.width * size.height
        if width * height > most:
            shrunk = math.sqrt(pixels / most)
            width, height = (max(square, math.floor(side / shrunk / square) * square) for side in size)
        elif width * height < self._of.least_pixels:
            grown = math.sqrt(self._of.least_pixels / pixels)
            width, height = (math.ceil(side * grown / square) * square for side in size)
        return Size(width, height)

    def _most_pixels(self, size: Size, options: ImageOptions) -> int:
        edge, most = options.longest_edge, self._of.longest_edge
        if edge is None:
            return self._of.most_pixels
        if not self._of.tile_size <= edge <= most:
            raise InvalidRequest.of_field(
                "image_options.longest_edge",
                f"{edge} is outside [{self._of.tile_size}, {most}] of this model",
            )
        return max(edge * edge * min(size) // max(size), 1)


def in_patches(
    pixels: NDArray[np.float32], description: VisionDescription
) -> tuple[NDArray[np.float32], Size]:
    """A picture as such eyes take it.

    Args:
        pixels: ``[1, 3, height, width]``.
        description: The eyes.

    Returns:
        The patches, square by square, each once for every frame of what could be a film:
        ``[patches, 3 * frames * patch * patch]``; and how many squares lie side by side and above each other.
    """
    patch, frames = description.patch, description.frames
    each = description.tile_size // patch
    _, _, height, width = pixels.shape
    squares = Size(width // description.tile_size, height // description.tile_size)
    cut = pixels.reshape(3, squares.height, each, patch, squares.width, each, patch)
    ordered = cut.transpose(1, 4, 2, 5, 0, 3, 6)[:, :, :, :, :, None]
    repeated = np.broadcast_to(ordered, (*ordered.shape[:5], frames, *ordered.shape[6:]))
    return repeated.reshape(-1, 3 * frames * patch * patch), squares
