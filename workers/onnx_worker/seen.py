"""Rows of image features on their way into a run, in the place of embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Gather = Callable[[list[int]], NDArray[np.float32]]
"""The rows that negative token ids name, float32 ``[ids, hidden]``."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a run of a model that sees takes beside token ids."""

    features: NDArray[np.float32]
    """``[features, hidden]``."""
    places: NDArray[np.int64]
    """``[features, 2]``: row of the batch and place in it of each."""

    @classmethod
    def nothing(cls, width: int) -> Seen:
        """For a run over text.

        Args:
            width: Elements of a row.
        """
        return cls(np.empty((0, width), np.float32), np.empty((0, 2), np.int64))

    @classmethod
    def taken_from(cls, ids: NDArray[np.int64], gather: Gather) -> Seen:
        """For token ids ``[batch, tokens]``, whose negative ones become zeros: any token will do there."""
        places = np.ascontiguousarray(np.argwhere(ids < 0))
        features = gather(ids[ids < 0].tolist())
        ids[ids < 0] = 0
        return cls(features, places)
