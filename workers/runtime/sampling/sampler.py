"""The step from logits to tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diplex.errors import InternalError
from workers.runtime.sampling.bias import Banned, LogitBias
from workers.runtime.sampling.candidates import Ids, largest, nucleus
from workers.runtime.sampling.params import SamplingParams
from workers.runtime.sampling.penalties import TokenCounts, penalise
from workers.runtime.sampling.randomness import uniforms

Logits = npt.NDArray[np.float32]

_FOLD = 64
"""Rows that a distribution is folded into to sum it in two levels."""


@dataclass(frozen=True, slots=True)
class SamplingRow:
    """What a row of logits needs to become a token."""

    params: SamplingParams
    position: int
    """Index in the output of the token to be chosen."""
    choice: int = 0
    """Index of the choice in its request, which gives each choice random numbers of its own."""
    tokens: TokenCounts | None = None
    """The tokens so far; needed if ``params.penalises``."""
    bias: LogitBias | None = None
    banned: Banned | None = None

    @property
    def adjusted(self) -> bool:
        """Whether its logits are changed before a token is chosen."""
        return self.params.penalises or self.bias is not None or self.banned is not None


class Sampler:
    """Chooses tokens. Its only state is scratch memory, so a row's token depends on that row alone.

    Not for several threads at once.

    The order is: bias, penalties, bans, temperature, top_k, top_p over what top_k left (renormalised),
    min_p, and a draw. It is that of transformers' ``generate``. vLLM applies min_p before top_k and top_p,
    which differs only where min_p changes the mass that top_p refers to.

    The draw inverts the distribution function at one uniform number. The function is summed in a fixed order
    of tokens rather than by probability: there, two nearly equal logits that swap places under rounding
    would swap tokens.
    """

    def __init__(self) -> None:
        self._scratch = np.empty(0, dtype=np.float32)

    def sample(self, logits: Logits, rows: Sequence[SamplingRow]) -> npt.NDArray[np.int64]:
        """Choose a token for every row.

        Args:
            logits: float32, [rows, vocab], the model's output. Rows that are ``adjusted`` change in place.
            rows: One for each row of logits.

        Returns:
            Token ids, int64, [rows].

        Raises:
            InternalError: Logits are NaN, +inf, or all -inf; ``metadata["rows"]`` lists all such rows. The
                logits are unchanged, so that the call can be repeated without them.
            ValueError: The number of rows isn't that of the logits, or a row with penalties has no
                ``tokens``.
        """
        if len(rows) != len(logits):
            raise ValueError(f"{len(rows)} rows for logits of shape {logits.shape}")
        best = logits.argmax(axis=1)
        _check(logits, best)
        for index, row in enumerate(rows):
            if row.adjusted:
                best[index] = _adjusted_best(logits[index], row)
        drawn = [index for index, row in enumerate(rows) if not row.params.greedy]
        if drawn:
            self._draw(logits, rows, drawn, best)
        return np.asarray(best, dtype=np.int64)

    def _draw(
        self, logits: Logits, rows: Sequence[SamplingRow], drawn: list[int], best: npt.NDArray[np.intp]
    ) -> None:
        """Replace the best tokens of the rows that aren't greedy by drawn ones."""
        chosen = [rows[index] for index in drawn]
        numbers = uniforms(
            [row.params.seed for row in chosen],
            [row.choice for row in chosen],
            [row.position for row in chosen],
        )
        if len(self._scratch) != logits.shape[1]:
            self._scratch = np.empty(logits.shape[1], dtype=np.float32)
        for index, row, number in zip(drawn, chosen, numbers.tolist(), strict=True):
            peak = float(logits[index, best[index]])
            best[index] = self._draw_row(logits[index], peak, row.params, number)

    def _draw_row(self, logits: Logits, peak: float, params: SamplingParams, number: float) -> int:
        """Draw from one row, [vocab]; ``peak`` is its largest logit."""
        if 0 < params.top_k < len(logits):
            ids = largest(logits, params.top_k)
            weights = np.exp((logits[ids] - peak) * np.float32(1 / params.temperature))
            if params.top_p < 1:
                inside = nucleus(weights, params.top_p * float(weights.sum(dtype=np.float64)))
                ids, weights = ids[inside], weights[inside]
            return _draw(ids, weights, params, number)
        if params.top_p < 1:
            weights = self._weights(logits, peak, params)
            ids = _nucleus_of_all(weights, params.top_p)
            return _draw(ids, weights[ids], params, number)
        if params.min_p > 0:
            floor = peak + params.temperature * math.log(params.min_p)
            slack = 1e-5 * (1 + abs(floor))  # More than rounding; the filter proper comes later.
            ids = np.flatnonzero(logits >= floor - slack)
            weights = np.exp((logits[ids] - peak) * np.float32(1 / params.temperature))
            return _draw(ids, weights, params, number)
        return _draw_folded(self._weights(logits, peak, params), number)

    def _weights(self, logits: Logits, peak: float, params: SamplingParams) -> Logits:
        """Probabilities relative to the largest, [vocab], in scratch memory."""
        weights = np.subtract(logits, peak, out=self._scratch)
        weights *= np.float32(1 / params.temperature)
        return np.exp(weights, out=weights)


def _check(logits: Logits, best: npt.NDArray[np.intp]) -> None:
    """Refuse rows without a distribution. argmax finds the first NaN if there is one, and +inf."""
    peaks = logits[np.arange(len(best)), best]
    finite = np.isfinite(peaks)
    if not finite.all():
        bad = np.flatnonzero(~finite).tolist()
        listed = ",".join(map(str, bad))
        raise InternalError(f"the model's logits are not finite in rows {listed}", metadata={"rows": listed})


def _adjusted_best(logits: Logits, row: SamplingRow) -> int:
    """Change a row's logits in place, as it asks for; its likeliest token afterwards."""
    if row.bias is not None:
        row.bias.apply(logits)
    if row.params.penalises:
        if row.tokens is None:
            raise ValueError("a row with penalties has no token counts")
        penalise(logits, row.params, row.tokens)
    if row.banned is not None:
        row.banned.apply(logits)
    return int(logits.argmax())


def _nucleus_of_all(weights: Logits, top_p: float) -> Ids:
    """Find the nucleus of a whole vocabulary, [vocab], among as few of its tokens as is certain to hold it.

    Tokens under the last floor are together less than 1 - top_p of the whole. The first is a guess, seldom
    wrong, that is checked.
    """
    total = _folded_sum(weights)
    last = (1 - top_p) * total / len(weights) * (1 - 1e-5)
    ids = np.flatnonzero(weights >= math.sqrt(last))
    if float(weights[ids].sum(dtype=np.float64)) < top_p * total:
        ids = np.flatnonzero(weights >= last)
    return ids[nucleus(weights[ids], top_p * total)]


def _draw(ids: Ids, weights: Logits, params: SamplingParams, number: float) -> int:
    """Apply min_p to the tokens that the other filters left, and draw one."""
    if params.min_p > 0:
        inside = weights >= params.min_p  # The largest weight is 1.
        ids, weights = ids[inside], weights[inside]
    return int(ids[_invert(weights.cumsum(dtype=np.float64), number)])


def _fold(weights: Logits) -> tuple[Logits, Logits]:
    """Views of the weights: all that fit as [_FOLD, columns], and the tail."""
    columns = len(weights) // _FOLD
    return weights[: _FOLD * columns].reshape(_FOLD, columns), weights[_FOLD * columns :]


def _folded_sum(weights: Logits) -> float:
    folded, tail = _fold(weights)
    return float(folded.sum(axis=0).sum(dtype=np.float64) + tail.sum(dtype=np.float64))


def _draw_folded(weights: Logits, number: float) -> int:
    """Draw an index by weight, [vocab], summed down the columns of the folded weights, the tail last.

    Only the sums of columns and the one column that the number falls into are accumulated.
    """
    folded, tail = _fold(weights)
    columns = int(folded.shape[1])
    sums = np.cumsum(np.concatenate([folded.sum(axis=0), tail]), dtype=np.float64)
    place = _invert(sums, number)
    if place >= columns:
        return _FOLD * columns + place - columns
    before = float(sums[place - 1]) if place else 0.0
    inner = np.cumsum(folded[:, place], dtype=np.float64)
    share = (number * float(sums[-1]) - before) / (float(sums[place]) - before)
    return _invert(inner, min(max(share, 0.0), 1.0)) * columns + place


def _invert(sums: npt.NDArray[np.float64], share: float) -> int:
    """The first index whose cumulative sum exceeds a share of the total: never one of weight 0."""
    total = float(sums[-1])
    place = int(sums.searchsorted(share * total, side="right"))
    return place if place < len(sums) else int(sums.searchsorted(total))
