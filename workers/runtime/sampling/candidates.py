"""The tokens that top_k, top_p and min_p leave over, found without sorting a vocabulary.

All three keep a beginning of the order "most probable first, lower id first among equals", so together they
keep the shortest of the three.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

_FOLD = 16
"""Logits are folded into so many rows to find the maxima of columns, which goes at the speed of memory."""
_SORTED_AT_MOST = 512
"""So many weights are sorted rather than divided further."""
_SAMPLE = 64
"""Weights whose median is the pivot."""


def largest(logits: npt.NDArray[np.float32], k: int) -> Ids:
    """Find the k largest logits.

    The k-th largest of the maxima of disjoint groups is a bound that k logits reach, so only the columns that
    reach it are looked at. Where k is small, the groups are large, so that there are few maxima to compare.

    Args:
        logits: float32, [vocab].
        k: 1 or more.

    Returns:
        Their ids, [min(k, vocab)], ascending; of equal logits those with lower ids.
    """
    columns = len(logits) // _FOLD
    if k >= len(logits):
        return np.arange(len(logits))
    if k > columns:
        return _first(logits, _nth_largest(logits, k), k)
    folded = logits[: _FOLD * columns].reshape(_FOLD, columns)
    maxima = folded.max(axis=0)
    groups = columns // _FOLD
    grouped = maxima[: _FOLD * groups].reshape(_FOLD, groups).max(axis=0) if k <= groups else maxima
    bound = _nth_largest(grouped, k)
    reaching = np.flatnonzero(maxima >= bound)
    inside = folded.take(reaching, axis=1).reshape(-1)
    places = np.flatnonzero(inside >= bound)
    row, column = np.divmod(places, len(reaching))
    ids, reached = row * columns + reaching[column], inside[places]
    if tail := len(logits) % _FOLD:
        further = len(logits) - tail + np.flatnonzero(logits[-tail:] >= bound)
        ids, reached = np.concatenate([ids, further]), np.concatenate([reached, logits[further]])
    if len(ids) == k:
        return ids
    return ids[_first(reached, _nth_largest(reached, k), k)]


def nucleus(weights: Floats, mass: float) -> Ids:
    """Find the fewest largest weights that add up to a mass (Holtzman et al., 2020, section 3.1).

    Splits the weights at a pivot and goes on with the side in which the sum reaches the mass, so that the
    cost is linear on average.

    Args:
        weights: Not negative, [n], n of 1 or more.
        mass: More than 0. If all weights fall short of it, all are kept.

    Returns:
        Their indices, ascending; of equal weights those that come first.
    """
    rest, kept, missing = weights, 0, mass
    while len(rest) > _SORTED_AT_MOST:
        pivot = _nth_largest(rest[:: len(rest) // _SAMPLE], _SAMPLE // 2)
        upper = rest[np.flatnonzero(rest >= pivot)]
        if len(upper) == len(rest):
            break  # The pivot is the smallest of many equal weights.
        total = float(upper.sum(dtype=np.float64))
        if total >= missing:
            rest = upper
        else:
            kept, missing, rest = kept + len(upper), missing - total, rest[np.flatnonzero(rest < pivot)]
    descending = np.sort(rest)[::-1]
    place = int(descending.cumsum(dtype=np.float64).searchsorted(missing))
    if place >= len(rest):
        place = len(rest) - 1
    return _first(weights, descending[place], kept + place + 1)


def before(weights: Floats, place: int) -> float:
    """The sum of the weights that come before one: those that are larger, and equal ones with lower indices.

    Args:
        weights: Not negative, [n].
        place: Index of the one.
    """
    own = weights[place]
    larger = weights[np.flatnonzero(weights > own)]
    equal = np.count_nonzero(weights[:place] == own)
    return float(np.add.reduce(larger, dtype=np.float64)) + equal * float(own)


def _nth_largest(values: Floats, n: int) -> float:
    place = len(values) - n
    return np.partition(values, place)[place]  # type: ignore[no-any-return]  # a scalar of the array's type


def _first(values: Floats, smallest: float, count: int) -> Ids:
    """Find the values above ``smallest``, and as many of those equal to it as make up the count."""
    kept = np.flatnonzero(values >= smallest)
    if len(kept) > count:
        above = values > smallest
        equal = np.flatnonzero(values == smallest)
        above[equal[: count - np.count_nonzero(above)]] = True
        kept = np.flatnonzero(above)
    return kept
