"""Numbers that a request adds to the logits of tokens, and tokens that it may not have yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt


class LogitBias:
    """What is added to a row of logits.

    Args:
        biases: Token id, in the vocabulary, to a finite number.
    """

    def __init__(self, biases: Mapping[int, float]) -> None:
        self._ids = np.fromiter(biases.keys(), np.int64, len(biases))
        self._values = np.fromiter(biases.values(), np.float32, len(biases))

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Adds, in place, to float32 [vocab]."""
        logits[self._ids] += self._values


class Banned:
    """Tokens that can't be chosen.

    Args:
        ids: Their ids, in the vocabulary.
    """

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = np.array(sorted(set(ids)), np.int64)

    def apply(self, logits: npt.NDArray[np.float32]) -> None:
        """Makes them impossible, in place, in float32 [vocab]."""
        logits[self._ids] = -np.inf
