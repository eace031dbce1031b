"""Idefics3's preprocessing, that of SmolVLM too, in Pillow and numpy.

The same as ``Idefics3Processor`` of transformers: token ids are identical, pixels too. What has to be kept
to:

- A picture is first scaled, also up, until its longer side is ``longest_edge``; the shorter is rounded down,
  then up to an even number.
- With a split it is then scaled so that both sides are multiples of the tile, cut, and the whole is scaled
  down to one more tile behind the others. Without, it is squashed into one tile.
- Each scaling rounds to 8 bits, so they can't be put together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from diplex.errors import InvalidRequest
from workers.runtime.vision.description import VisionDescription
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Size

_LARGEST: Final = 4096
"""Pixels beyond which the reference scales no side."""
_LEVELS: Final = 256


class Idefics3:
    """Preprocesses.

    Args:
        description: The model's eyes.
    """

    def __init__(self, description: VisionDescription) -> None:
        self._of = description
        self._resample = Resampling(description.resample)
        self._levels = _normalised_levels(description)

    def layout(self, size: Size, options: ImageOptions) -> Layout:
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`.

        Raises:
            InvalidRequest: A longest edge that the model has no markers for, or less than a tile.
        """
        columns, rows = self._grid(size, options)
        of, fake = self._of, self._of.fake_token
        features = of.image_token * of.tile_rows
        text = ""
        for row in range(1, rows + 1):
            tiles = (f"{fake}<row_{row}_col_{column}>{features}" for column in range(1, columns + 1))
            text += "".join(tiles) + "\n"
        text += ("\n" if rows else "") + f"{fake}{of.global_token}{features}{fake}"
        return Layout(text, (of.tile_rows,) * (columns * rows + 1))

    def tiles(self, picture: Image, options: ImageOptions) -> Idefics3Tiles:
        """See :class:`workers.runtime.vision.preprocessing.Preprocessor`."""
        side = self._of.tile_size
        size = Size(*picture.size)
        columns, rows = self._grid(size, options)
        picture = self._scaled(picture, _scaled_to(size, self._longest_edge(options)))
        pieces = []
        if columns:
            picture = self._scaled(picture, Size(columns * side, rows * side))
            corners = [(x * side, y * side) for y in range(rows) for x in range(columns)]
            pieces = [_array(picture.crop((x, y, x + side, y + side))) for x, y in corners]
        pieces.append(_array(self._scaled(picture, Size(side, side))))
        return Idefics3Tiles(pieces, self._levels)

    def _grid(self, size: Size, options: ImageOptions) -> Size:
        """Columns and rows of tiles beside the whole; none if the picture isn't split."""
        side = self._of.tile_size
        width, height = _scaled_to(size, self._longest_edge(options))
        if not options.split or max(width, height) <= side:
            return Size(0, 0)
        ratio = width / height
        if width >= height:
            columns = math.ceil(width / side)
            return Size(columns, math.ceil(int(columns * side / ratio) / side))
        rows = math.ceil(height / side)
        return Size(math.ceil(int(rows * side * ratio) / side), rows)

    def _longest_edge(self, options: ImageOptions) -> int:
        side, most = self._of.tile_size, self._of.longest_edge
        if options.longest_edge is None:
            return most if options.split else side
        if not side <= options.longest_edge <= most:
            raise InvalidRequest.of_field(
                "image_options.longest_edge",
                f"{options.longest_edge} is outside [{side}, {most}] of this model",
            )
        return options.longest_edge

    def _scaled(self, picture: Image, size: Size) -> Image:
        return picture.resize(size, self._resample)


@dataclass(frozen=True, slots=True)
class Idefics3Tiles:
    """See :class:`workers.runtime.vision.preprocessing.Tiles`."""

    pieces: list[NDArray[np.uint8]]
    """Each ``[height, width, 3]``."""
    levels: NDArray[np.float32]
    """``[3, 256]``: what each channel's values are normalised to."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tiles."""
        return sum(piece.nbytes for piece in self.pieces)

    def pixels(self, index: int) -> NDArray[np.float32]:
        """One tile, float32 ``[1, 3, height, width]``."""
        piece = self.pieces[index]
        pixels = np.empty((1, 3, *piece.shape[:2]), np.float32)
        for channel in range(3):
            np.take(self.levels[channel], piece[..., channel], out=pixels[0, channel])
        return pixels


def _scaled_to(size: Size, longest_edge: int) -> Size:
    """A size whose longer side is so long; the shorter one is even."""
    ratio = size.width / size.height
    if size.width >= size.height:
        width, height = longest_edge, int(longest_edge / ratio)
        height += height % 2
    else:
        width, height = int(longest_edge * ratio), longest_edge
        width += width % 2
    return _bounded(Size(max(width, 1), max(height, 1)))


def _bounded(size: Size) -> Size:
    ratio = size.width / size.height
    if size.width >= size.height and size.width > _LARGEST:
        return Size(_LARGEST, max(int(_LARGEST / ratio), 1))
    if size.height > size.width and size.height > _LARGEST:
        return Size(max(int(_LARGEST * ratio), 1), _LARGEST)
    return size


def _normalised_levels(description: VisionDescription) -> NDArray[np.float32]:
    """All that 8-bit values can become, rounded where the reference rounds: ``[3, 256]``."""
    rescaled = (np.arange(_LEVELS) * description.rescale_factor).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None] for values in (description.mean, description.std))
    levels: NDArray[np.float32] = (rescaled - mean) / std
    return levels


def _array(picture: Image) -> NDArray[np.uint8]:
    return np.asarray(picture, np.uint8)
