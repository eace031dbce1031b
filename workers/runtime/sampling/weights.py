"""The whole distribution of a row, as weights that need not add up to 1, summed in levels.

A level folds the one below it into sixteen rows, which is added up at the speed of memory. A draw goes down
the levels, so that only a few sums are accumulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib import introspect

from workers.runtime.sampling.candidates import Ids, before, nucleus

Logits = npt.NDArray[np.float32]

_FOLD: Final = 16
_LOG2_E: Final = math.log2(math.e)
_LARGEST: Final = 100.0
_SMALLEST: Final = -125.0
"""Exponents of two between which weights and their sum are normal float32 numbers, in any vocabulary."""

_LOOKED_AT: Final = 1024
"""Logits of which the smallest is looked up, to guess whether weights will be normal numbers."""


def _is_fast(function: str) -> bool:
    """Whether numpy computes a function of float32 by vectors on this machine."""
    found = introspect.opt_func_info(func_name=f"^{function}$", signature="float32")
    return "baseline" not in found.get(function, {}).get("ff", {}).get("current", "baseline")


_EXP2_IS_FAST: Final = _is_fast("exp2")


class Weights:
    """Weights of the tokens of one row at a time, in scratch memory.

    Args:
        vocab_size: Width of the logits.
    """

    def __init__(self, vocab_size: int) -> None:
        self._columns = -(-vocab_size // _FOLD**2)
        scratch = np.zeros(self._columns * _FOLD**2, np.float32)  # what is behind the vocabulary stays 0
        self.values: Final = scratch[:vocab_size]
        """Not negative, [vocab]; valid until the next :meth:`fill`."""
        self.total = 0.0
        """Their sum."""
        self.peak = 0.0
        """The largest."""
        self.log_total = 0.0
        """Logarithm of the sum of ``exp(logits / temperature)``."""
        self._leaves = scratch.reshape(_FOLD, -1)
        self._fine = np.zeros(self._columns * _FOLD, np.float32)
        self._coarse = np.zeros(self._columns, np.float32)
        self._sums = np.zeros(self._columns, np.float64)  # of the coarse ones up to each

    def fill(self, logits: Logits, temperature: float = 1.0, peak: float | None = None) -> None:
        """Compute the weights of a row.

        Args:
            logits: float32, [vocab], the largest of them finite.
            temperature: What divides them, more than 0.
            peak: The largest of them, if it is known already.
        """
        if peak is None:
            peak = float(logits.max())
        rate = _LOG2_E / temperature
        middle = len(logits) // 2
        high, low = peak * rate, float(logits[middle : middle + _LOOKED_AT].min()) * rate
        if _EXP2_IS_FAST and low > _SMALLEST and high < _LARGEST:
            np.multiply(logits, np.float32(rate), out=self.values)
            np.exp2(self.values, out=self.values)
            self.peak = 2.0**high
        elif _EXP2_IS_FAST and low - high > _SMALLEST:
            np.subtract(logits, np.float32(peak), out=self.values)
            np.multiply(self.values, np.float32(rate), out=self.values)
            np.exp2(self.values, out=self.values)
            self.peak = 1.0
        else:  # exp2 is slow where it leaves the normal numbers.
            np.subtract(logits, np.float32(peak), out=self.values)
            np.multiply(self.values, np.float32(1 / temperature), out=self.values)
            np.exp(self.values, out=self.values)
            self.peak = 1.0
        np.add.reduce(self._leaves, axis=0, out=self._fine)
        np.add.reduce(self._fine.reshape(_FOLD, -1), axis=0, out=self._coarse)
        np.add.accumulate(self._coarse, out=self._sums)
        self.total = float(self._sums[-1])
        self.log_total = peak / temperature + math.log(self.total / self.peak)

    def draw(self, number: float) -> int:
        """The token that a uniform number in [0, 1) falls into; never one of weight 0."""
        sums = self._sums
        share = number * self.total
        column = int(sums.searchsorted(share, side="right"))
        if column == len(sums):  # by rounding
            column = int(sums.searchsorted(sums[-1]))
        if column:
            share -= float(sums[column - 1])
        row, share = _pick(self._fine[column :: self._columns].tolist(), share)
        column += row * self._columns
        row, _ = _pick(self._leaves[:, column].tolist(), share)
        return row * len(self._fine) + column

    def among_likeliest(self, token: int, part: float) -> bool:
        """Whether the likelier tokens, and those before it that are as likely, hold less than a part of all.

        Args:
            token: Its id.
            part: Of the sum of all weights, between 0 and 1.
        """
        own = self.values[token]
        behind = (1 - part) * self.total
        # A sum that is smaller than the token's own weight is one of smaller weights.
        certain = float(np.add.reduce(self._fine, where=self._fine < own, dtype=np.float64))
        if certain + float(own) > behind * (1 + 1e-5):
            return True
        return before(self.values, token) < part * self.total

    def likeliest(self, part: float) -> Ids:
        """The fewest likeliest tokens that hold a part of all, ascending; see :func:`nucleus`.

        They are looked for among as few as is certain to hold them: tokens under the last floor are together
        less than ``1 - part`` of all. The first floor is a guess, seldom wrong, that is checked.
        """
        mass = part * self.total
        last = (1 - part) * self.total / len(self.values) * (1 - 1e-5)
        ids = np.flatnonzero(self.values >= math.sqrt(last * self.peak))
        if float(self.values[ids].sum(dtype=np.float64)) < mass:
            ids = np.flatnonzero(self.values >= last)
        return ids[nucleus(self.values[ids], mass)]


def _pick(weights: Sequence[float], share: float) -> tuple[int, float]:
    """The index of the weight that a share of their sum falls into, and what is left of the share there."""
    last = 0, 0.0
    for index, weight in enumerate(weights):
        if share < weight:
            return index, share
        if weight > 0:
            last = index, weight
        share -= weight
    return last  # by rounding
