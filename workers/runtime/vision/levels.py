"""From 8-bit pixels to those that eyes take, by a table: the same for every family of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.runtime.vision.description import VisionDescription

_LEVELS: Final = 256


@dataclass(frozen=True, slots=True)
class LevelTiles:
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


def normalised_levels(description: VisionDescription) -> NDArray[np.float32]:
    """All that 8-bit values can become, rounded where the reference rounds: ``[3, 256]``."""
    rescaled = (np.arange(_LEVELS) * description.rescale_factor).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None] for values in (description.mean, description.std))
    levels: NDArray[np.float32] = (rescaled - mean) / std
    return levels
