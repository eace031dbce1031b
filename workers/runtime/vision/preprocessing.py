"""What stands between a picture and a model's eyes; each family of models has a way of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from workers.runtime.vision.options import ImageOptions


class Size(NamedTuple):
    """Of a picture, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture stands in a prompt."""

    text: str
    """What it becomes in the rendered template: the image token once for each row of features, and what marks
    them."""
    rows: tuple[int, ...]
    """Rows of features that each tile comes to, in the order of the tiles and of the image tokens."""


class Tiles(Protocol):
    """The tiles of one picture, before they are pixels in floating point."""

    @property
    def nbytes(self) -> int:
        """Bytes that they take until they are encoded."""

    def pixels(self, index: int) -> NDArray[np.float32]:
        """One tile as the eyes take it, ``[1, 3, height, width]``."""


class Preprocessor(Protocol):
    """Makes pictures into pixels. Safe to use from several threads."""

    def layout(self, size: Size, options: ImageOptions) -> Layout:
        """How a picture of that size will stand in the prompt.

        Raises:
            InvalidRequest: The options can't be had.
        """

    def tiles(self, picture: Image, options: ImageOptions) -> Tiles:
        """The tiles of a picture (mode RGB), as many as its layout says."""
