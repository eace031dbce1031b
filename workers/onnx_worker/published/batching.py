"""How rows of different lengths can be put into one run of a published decoder.

A graph doesn't say whether its rows are independent of each other, or what it makes of places that hold no
token. So it is tried out once, when the model is loaded: whatever gives the logits of single rows may be
used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.published.decoder import Batch, Decoder
from workers.onnx_worker.published.inputs import TokenInputs


class Batching(Enum):
    """What may share a run."""

    RAGGED = "ragged"
    """Rows of any lengths: a gap, which the mask leaves out, stands behind the tokens of shorter rows and
    before the new one."""
    LEADING = "leading"
    """Rows of any lengths, but the graph writes new keys and values right behind a row's tokens, into the
    gap: its attention counts ones in the mask, as ``GroupQueryAttention`` does."""
    ALIGNED = "aligned"
    """Rows of the same length."""
    SINGLE = "single"
    """Nothing: a row's result depends on the rows beside it, as with activations rounded a tensor at a
    time."""


_TOLERANCE: Final = {np.dtype(np.float32): 1e-4, np.dtype(np.float16): 4e-3}
"""Type of keys and values -> largest difference of logits, in parts of the largest logit, that is only
another order of additions."""
_PROBES: Final = ((3, 8), (8, 8))
"""Lengths of rows that are tried together."""
_STEPS: Final = 2
_NOISE: Final = 2.0
"""Standard deviation of what lies in gaps."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Tries a decoder out.

    Args:
        decoder: The decoder.
        inputs: What it takes for tokens.
        empty: Makes keys and values for so many rows and places.
        vocabulary: Tokens that there are.
    """

    decoder: Decoder
    inputs: TokenInputs
    empty: Callable[[int, int], dict[str, NDArray[Any]]]
    vocabulary: int

    def batching(self) -> Batching:
        """The best that gives the same logits as single rows."""
        ragged, aligned = _PROBES
        if self.decoder.masked:
            for batching in (Batching.RAGGED, Batching.LEADING):
                if self._holds(ragged, batching):
                    return batching
        return Batching.ALIGNED if self._holds(aligned, Batching.RAGGED) else Batching.SINGLE

    def _holds(self, lengths: tuple[int, ...], batching: Batching) -> bool:
        """Whether tokens behind rows of these lengths come out alike, alone and together."""
        random = np.random.default_rng(0)
        rows = [random.integers(0, self.vocabulary, (1, length)) for length in lengths]
        steps = random.integers(0, self.vocabulary, (_STEPS, len(rows), 1))
        pasts = [self._prefilled(row) for row in rows]
        alone = [
            self._decoded([past], steps[:, number : number + 1], Batching.RAGGED)
            for number, past in enumerate(pasts)
        ]
        together = self._decoded(pasts, steps, batching)
        expected = (np.concatenate(parts, axis=1) for parts in zip(*alone, strict=True))
        return all(map(self._alike, together, expected))

    def _alike(self, got: NDArray[Any], expected: NDArray[Any]) -> bool:
        limit = _TOLERANCE[self.decoder.cache.dtype] * np.abs(expected).max()
        return bool(np.abs(got - expected).max() <= limit)

    def _prefilled(self, ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Keys and values of one row."""
        ones, positions = np.ones((1, ids.size), np.int64), np.arange(ids.size)[None]
        present = self._run(ids, self.empty(1, 0), ones, positions)[1]
        return {name: array.copy() for name, array in present.items()}

    def _decoded(
        self, pasts: list[dict[str, NDArray[Any]]], steps: NDArray[np.int64], batching: Batching
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """All rows in one run a step.

        Returns:
            Logits ``[steps, rows, vocabulary]``, and what stands where the first layer's new keys should.
        """
        lengths = np.array([_places(past) for past in pasts])
        past = self._gathered(pasts, lengths)
        mask = mask_of(lengths, int(lengths.max()))
        logits, keys = [], []
        for step in steps:
            places = new_places(lengths, mask.shape[1], batching)
            mask = with_new(mask, lengths, batching)
            got, past = self._run(step, past, mask, lengths[:, None])
            logits.append(got)
            keys.append(past["0.key"][np.arange(len(lengths)), :, places].astype(np.float32))
            lengths = lengths + 1
        return np.stack(logits), np.stack(keys)

    def _gathered(
        self, pasts: list[dict[str, NDArray[Any]]], lengths: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Keys and values of all rows, with noise in the gaps."""
        noise, past = np.random.default_rng(1), self.empty(len(pasts), int(lengths.max()))
        for name, array in past.items():
            array[...] = _NOISE * noise.standard_normal(array.shape)
            for row, length in enumerate(lengths):
                array[row, :, :length] = pasts[row][name][0]
        return past

    def _run(
        self,
        ids: NDArray[np.int64],
        past: dict[str, NDArray[Any]],
        mask: NDArray[np.int64],
        at: NDArray[np.int64],
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        batch = Batch(self.inputs(ids), past, mask, at)
        logits, present = self.decoder.run(batch, 1, self.vocabulary)
        return logits[:, 0], present


def mask_of(lengths: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Int64 ``[rows, width]``: ones where rows of these lengths have tokens."""
    return (np.arange(width) < lengths[:, None]).astype(np.int64)


def with_new(mask: NDArray[np.int64], lengths: NDArray[np.int64], batching: Batching) -> NDArray[np.int64]:
    """The mask with one more token a row, which stands in a place more or behind the row's own tokens."""
    grown = np.pad(mask, ((0, 0), (0, 1)))
    grown[np.arange(len(lengths)), new_places(lengths, mask.shape[1], batching)] = 1
    return grown


def new_places(lengths: NDArray[np.int64], width: int, batching: Batching) -> NDArray[np.int64]:
    """Where each row's new key and value stand after a run behind ``width`` places."""
    return lengths if batching is Batching.LEADING else np.full(len(lengths), width)


def _places(past: dict[str, NDArray[Any]]) -> int:
    places: int = next(iter(past.values())).shape[2]
    return places
