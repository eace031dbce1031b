"""The step from logits to tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diplex.errors import InternalError
from workers.runtime.sampling.bias import Banned, LogitBias
from workers.runtime.sampling.candidates import Ids, before, largest, nucleus
from workers.runtime.sampling.params import SamplingParams
from workers.runtime.sampling.penalties import TokenCounts, penalise
from workers.runtime.sampling.randomness import further, uniforms
from workers.runtime.sampling.weights import Weights

Logits = npt.NDArray[np.float32]

_TRIES = 4
"""Draws before the tokens that top_p keeps are worked out."""


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

    A draw inverts the distribution function at a uniform number; one that top_p leaves out is repeated. The
    function is summed in a fixed order of tokens rather than by probability: there, two nearly equal logits
    that swap places under rounding would swap tokens.
    """

    def __init__(self) -> None:
        self._weights = Weights(0)

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
                _adjust(logits[index], row)
                if row.params.greedy:
                    best[index] = logits[index].argmax()
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
        if len(self._weights.values) != logits.shape[1]:
            self._weights = Weights(logits.shape[1])
        for index, row, number in zip(drawn, chosen, numbers.tolist(), strict=True):
            peak = None if row.adjusted else float(logits[index, best[index]])
            best[index] = self._draw_row(logits[index], row.params, number, peak)

    def _draw_row(self, logits: Logits, params: SamplingParams, number: float, peak: float | None) -> int:
        """Draw from one row, [vocab]; ``peak`` is its largest logit, if that is known."""
        rate = np.float32(1 / params.temperature)
        mass = math.inf  # of the likeliest tokens that top_p keeps, where that of the likeliest is 1
        if 0 < params.top_k < len(logits):
            ids = largest(logits, params.top_k)
            reached = logits.take(ids)
            weights = np.exp((reached - reached.max()) * rate)
            if params.top_p < 1:
                mass = params.top_p * float(np.add.reduce(weights, dtype=np.float64))
        elif params.min_p > 0:
            if peak is None:
                peak = float(logits.max())
            floor = peak + params.temperature * math.log(params.min_p)
            slack = 1e-5 * (1 + abs(floor))  # More than rounding; the filter proper comes later.
            ids = np.flatnonzero(logits >= floor - slack)
            weights = np.exp((logits[ids] - peak) * rate)
            if params.top_p < 1:
                self._weights.fill(logits, params.temperature, peak)
                mass = params.top_p * self._weights.total / self._weights.peak
        else:
            self._weights.fill(logits, params.temperature, peak)
            return self._draw_of_all(params.top_p, number)
        if params.min_p > 0:
            inside = weights >= params.min_p  # The largest weight is 1.
            ids, weights = ids[inside], weights[inside]
        return _draw(ids, weights, mass, number)

    def _draw_of_all(self, top_p: float, number: float) -> int:
        """Draw from the whole vocabulary."""
        for _ in range(_TRIES):
            token = self._weights.draw(number)
            if top_p == 1 or self._weights.among_likeliest(token, top_p):
                return token
            number = further(number)
        ids = self._weights.likeliest(top_p)
        return _draw(ids, self._weights.values[ids], math.inf, number)


def _draw(ids: Ids, weights: Logits, mass: float, number: float) -> int:
    """Draw one of the likeliest tokens that add up to a mass.

    A token that isn't one of them is drawn again. That spares working them out, unless it happens often.
    """
    sums = weights.cumsum(dtype=np.float64)
    for _ in range(_TRIES):
        place = _invert(sums, number)
        if mass >= sums[-1] or before(weights, place) < mass:
            return int(ids[place])
        number = further(number)
    inside = nucleus(weights, mass)
    return int(ids[inside[_invert(weights[inside].cumsum(dtype=np.float64), number)]])


def _invert(sums: npt.NDArray[np.float64], number: float) -> int:
    """The first index whose cumulative sum exceeds a share of the total: never one of weight 0."""
    total = float(sums[-1])
    place = int(sums.searchsorted(number * total, side="right"))
    return place if place < len(sums) else int(sums.searchsorted(total))


def _check(logits: Logits, best: npt.NDArray[np.intp]) -> None:
    """Refuse rows without a distribution. argmax finds the first NaN if there is one, and +inf."""
    peaks = logits[np.arange(len(best)), best]
    finite = np.isfinite(peaks)
    if not finite.all():
        bad = np.flatnonzero(~finite).tolist()
        listed = ",".join(map(str, bad))
        raise InternalError(f"the model's logits are not finite in rows {listed}", metadata={"rows": listed})


def _adjust(logits: Logits, row: SamplingRow) -> None:
    """Change a row's logits in place, as it asks for."""
    if row.bias is not None:
        row.bias.apply(logits)
    if row.params.penalises:
        if row.tokens is None:
            raise ValueError("a row with penalties has no token counts")
        penalise(logits, row.params, row.tokens)
    if row.banned is not None:
        row.banned.apply(logits)
