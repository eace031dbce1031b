"""Rows of features by the negative token ids that name them, for backends that keep them in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class FeatureRows:
    """Keeps rows.

    Args:
        width: Elements of a row.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._tiles: dict[int, NDArray[np.float32]] = {}  # first id of a tile -> its rows
        self._places: dict[int, tuple[int, int]] = {}  # id -> first id of its tile, row in it

    def put(self, ids: range, rows: NDArray[np.float32]) -> None:
        """Keeps the rows of a tile, ``[len(ids), width]``, under the ids in their order."""
        self._tiles[ids[0]] = np.array(rows, np.float32).reshape(len(ids), self._width)
        self._places.update((token, (ids[0], row)) for row, token in enumerate(ids))

    def gather(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The rows that the ids name, ``[len(ids), width]``.

        Raises:
            KeyError: One was never put, or is forgotten.
        """
        gathered = np.empty((len(ids), self._width), np.float32)
        for place, token in enumerate(ids):
            tile, row = self._places[token]
            gathered[place] = self._tiles[tile][row]
        return gathered

    def forget(self, ids: range) -> None:
        """Gives back what there is of a picture's rows."""
        for token in ids:
            self._places.pop(token, None)
            self._tiles.pop(token, None)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(rows.nbytes for rows in self._tiles.values())
