"""Random numbers that depend on nothing but what they are for.

A draw is a function of (seed, choice, position): the same in any batch, on any replica, after a restart.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio: SplitMix64's increment
_MASK = (1 << 64) - 1


def fresh_seed() -> int:
    """A seed for a request that gives none, to be reported to the client.

    It has 53 bits, so that it survives JSON clients that keep numbers as float64.
    """
    return secrets.randbits(53)


def uniforms(
    seeds: Sequence[int], choices: Sequence[int], positions: Sequence[int]
) -> npt.NDArray[np.float64]:
    """One uniform number in [0, 1) for each row, [rows].

    Each (seed, choice) selects a SplitMix64 generator (Steele, Lea and Flood, 2014), whose output number
    ``position`` is computed directly: counter-based, and vectorised over the rows.

    Args:
        seeds: Any integers; taken modulo 2**64.
        choices: Index of the choice in its request, [rows].
        positions: Index of the token in the output, [rows].
    """
    seed = np.array([value & _MASK for value in seeds], dtype=np.uint64)
    state = _mix(_mix(seed + _GOLDEN) + _GOLDEN * (np.array(choices, dtype=np.uint64) + np.uint64(1)))
    bits = _mix(state + _GOLDEN * (np.array(positions, dtype=np.uint64) + np.uint64(1)))
    return np.asarray((bits >> np.uint64(11)) * np.float64(2**-53), dtype=np.float64)


def further(number: float) -> float:
    """Another uniform number in [0, 1), a function of one that :func:`uniforms` or this gave."""
    bits = (int(number * 2**53) + int(_GOLDEN)) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        bits = ((bits ^ (bits >> shift)) * factor) & _MASK
    return (bits >> 11) * 2.0**-53


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function: a bijection in which every bit depends on all bits."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
