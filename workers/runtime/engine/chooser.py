"""From a step's logits to its tokens: grammars, sampling, log probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diplex.errors import DiplexError, InternalError
from workers.runtime.engine.answer import Answer
from workers.runtime.engine.plan import StepPlan
from workers.runtime.sampling import Distribution, Sampler, SamplingRow, TokenLogprob, distributions
from workers.runtime.structured.masks import apply_mask, mask_words

Logprobs = dict[int, list[TokenLogprob]]
"""Sequence -> log probabilities of the tokens that a step chose for it, if it wants them."""


@dataclass(slots=True)
class Chosen:
    """What a step comes to."""

    tokens: list[int]
    """One for every row of logits; of sequences that can't go on, anything."""
    logprobs: Logprobs
    stuck: dict[int, DiplexError]
    """Sequences that can't go on -> why."""
    broken: set[int] = field(default_factory=set)
    """Those among them whose keys and values can't be trusted."""


class Chooser:
    """Chooses; used by one thread.

    Args:
        vocab_size: Tokens.
        max_length: Tokens of a sequence, prompt and output.
    """

    def __init__(self, vocab_size: int, max_length: int) -> None:
        self._max_length = max_length
        self._sampler = Sampler()
        self._mask = np.empty(mask_words(vocab_size), np.int32)

    def choose(self, plan: StepPlan, logits: NDArray[np.float32], answers: Mapping[int, Answer]) -> Chosen:
        """The next token for every row of logits, and the log probabilities that are wanted.

        Args:
            plan: The step.
            logits: Float32 ``[rows, vocabulary]``; changed.
            answers: Sequence -> its answer.
        """
        of_rows = [answers[sequence] for sequence in plan.sampled]
        rows = _sampling_rows(plan, answers)
        # Those that are held to a grammar are never speculated on: one row each.
        constrained = {row: answer for row, answer in enumerate(of_rows) if answer.constraint}
        # Log probabilities are those before anything changes the logits.
        changing = {row for row, each in enumerate(rows) if each.adjusted} | constrained.keys()
        told = _told(of_rows, logits, changing)
        stuck = self._hold(plan, logits, constrained)
        chosen = self._sampled(plan, logits, rows)
        for row, answer in constrained.items():
            if answer.forced:
                chosen.tokens[row] = answer.forced[0]
        chosen.stuck |= stuck
        for row, distribution in told.items():
            chosen.logprobs.setdefault(plan.sampled[row], []).append(distribution.of(chosen.tokens[row]))
        return chosen

    def _hold(
        self, plan: StepPlan, logits: NDArray[np.float32], constrained: Mapping[int, Answer]
    ) -> dict[int, DiplexError]:
        """Leaves the tokens that the grammars allow; says which sequences can't go on."""
        stuck = {}
        for row, answer in constrained.items():
            if answer.forced or answer.constraint is None:
                continue
            try:
                held = answer.constraint.fill(self._mask, little_room=answer.little_room(self._max_length))
            except DiplexError as error:
                stuck[plan.sampled[row]] = error
                continue
            if held:
                apply_mask(logits[row], self._mask)
        return stuck

    def _sampled(self, plan: StepPlan, logits: NDArray[np.float32], rows: list[SamplingRow]) -> Chosen:
        """What the sampler chooses; sequences with broken logits can't go on."""
        try:
            return Chosen(_listed(self._sampler.sample(logits, rows)), {}, {})
        except InternalError as error:
            broken = [int(row) for row in error.metadata["rows"].split(",")]
            logits[broken] = 0.0
            tokens = _listed(self._sampler.sample(logits, rows))
            sequences = {plan.sampled[row] for row in broken}
            return Chosen(tokens, {}, dict.fromkeys(sequences, error), sequences)


def _sampling_rows(plan: StepPlan, answers: Mapping[int, Answer]) -> list[SamplingRow]:
    """How each row is sampled; of a sequence with guesses, each as if those before it were right."""
    ahead: Counter[int] = Counter()  # sequence -> rows before
    rows = []
    for sequence in plan.sampled:
        rows.append(answers[sequence].row(ahead[sequence]))
        ahead[sequence] += 1
    return rows


def _told(answers: list[Answer], logits: NDArray[np.float32], changing: set[int]) -> dict[int, Distribution]:
    """The distributions of the rows whose log probabilities are wanted."""
    wanted = {
        row: most
        for row, answer in enumerate(answers)
        if (most := answer.request.generation.output.logprobs) is not None
    }
    return distributions(logits, wanted, changing)


def _listed(tokens: NDArray[np.int64]) -> list[int]:
    listed: list[int] = tokens.tolist()
    return listed
