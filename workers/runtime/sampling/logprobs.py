"""Log probabilities of chosen tokens and of the likeliest ones.

They are those of the model's own distribution, before bias, penalties, temperature and filters: how likely
the model itself held a token, whatever it was made to choose.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workers.runtime.sampling.candidates import largest
from workers.runtime.sampling.weights import Weights

Logits = npt.NDArray[np.float32]


class TokenLogprob(NamedTuple):
    """The log probability of one token at one position."""

    token_id: int
    logprob: float
    """Natural logarithm."""
    top: tuple[tuple[int, float], ...] = ()
    """The likeliest tokens and their log probabilities, best first; of equal ones the lower id first."""


class Distribution:
    """What one row of logits says about every token.

    Args:
        logits: float32, [vocab]; a row that nothing changes.
        normaliser: The logarithm of the sum of ``exp(logits)``.
        most: How many of the likeliest tokens to tell with each one asked for.
    """

    def __init__(self, logits: Logits, normaliser: float, most: int) -> None:
        self._logits = logits
        self._normaliser = normaliser
        self._top = self._likeliest(most) if most else ()

    def of(self, token_id: int) -> TokenLogprob:
        """The log probability of a token, with the likeliest beside it."""
        return TokenLogprob(token_id, float(self._logits[token_id]) - self._normaliser, self._top)

    def _likeliest(self, most: int) -> tuple[tuple[int, float], ...]:
        ids = largest(self._logits, most)
        values = self._logits[ids]
        order = np.argsort(-values, kind="stable")
        logprobs = values[order].astype(np.float64) - self._normaliser
        return tuple(zip(ids[order].tolist(), logprobs.tolist(), strict=True))


def distributions(
    logits: Logits, wanted: Mapping[int, int], changing: Container[int]
) -> dict[int, Distribution]:
    """The distributions of some rows.

    Args:
        logits: float32, [rows, vocab].
        wanted: Row to the number of likeliest tokens, 0 or more.
        changing: Rows whose logits are going to be changed in place; they are copied.
    """
    weights = Weights(logits.shape[1])
    found = {}
    for index, most in wanted.items():
        row = logits[index]
        weights.fill(row)
        kept = row.copy() if index in changing else row
        found[index] = Distribution(kept, weights.log_total, most)
    return found
