"""Penalties on tokens that a sequence already has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workers.runtime.sampling.params import SamplingParams

_BOUND = np.float32(1e30)
"""Only absurd penalties make logits beyond this, which divided by a temperature would leave float32."""


class TokenCounts:
    """The distinct tokens of a sequence and how often each was generated. Adding one costs constant time.

    Args:
        prompt: Ids of the prompt's tokens.
        vocab_size: Width of the logits. Ids beyond it (placeholders of images) are left out.
    """

    def __init__(self, prompt: Sequence[int] | npt.NDArray[np.int64], vocab_size: int) -> None:
        distinct = np.unique(np.asarray(prompt, dtype=np.int64))
        distinct = distinct[(distinct >= 0) & (distinct < vocab_size)]
        self._size = len(distinct)
        self._ids = np.zeros(self._size + 64, dtype=np.int64)
        self._ids[: self._size] = distinct
        self._counts = np.zeros(self._size + 64, dtype=np.float32)
        self._place = {token_id: i for i, token_id in enumerate(distinct.tolist())}  # token id -> index

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The distinct ids of prompt and output, [n]; a view, valid until the next :meth:`add`."""
        return self._ids[: self._size]

    @property
    def counts(self) -> npt.NDArray[np.float32]:
        """How often each of :attr:`ids` was generated, [n]; 0 for those only in the prompt; a view."""
        return self._counts[: self._size]

    def add(self, token_id: int) -> None:
        """Count a generated token."""
        place = self._place.setdefault(token_id, self._size)
        if place == self._size:
            self._append(token_id)
        self._counts[place] += 1

    def _append(self, token_id: int) -> None:
        if self._size == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[self._size] = token_id
        self._size += 1


def penalise(logits: npt.NDArray[np.float32], params: SamplingParams, tokens: TokenCounts) -> None:
    """Apply a row's penalties to its logits, [vocab], in place; what they overdo is cut at ``_BOUND``.

    Repetition as in CTRL (Keskar et al., 2019, section 4.1; its form for negative logits is that of
    transformers), over prompt and output. Then frequency and presence by OpenAI's formula, over the output
    only: ``logit -= count * frequency_penalty + (count > 0) * presence_penalty``. The order is vLLM's.
    """
    ids = tokens.ids
    values = logits.take(ids)
    if params.repetition_penalty != 1:
        rate = np.float32(params.repetition_penalty)
        # Of quotient and product, the one nearer to minus infinity is wanted, whatever the sign.
        pick = np.minimum if rate > 1 else np.maximum
        with np.errstate(over="ignore"):
            pick(values / rate, values * rate, out=values)
    if params.frequency_penalty:
        values -= tokens.counts * np.float32(params.frequency_penalty)
    if params.presence_penalty:
        values -= (tokens.counts > 0) * np.float32(params.presence_penalty)
    np.minimum(values, _BOUND, out=values)
    logits[ids] = np.maximum(values, -_BOUND, out=values)
