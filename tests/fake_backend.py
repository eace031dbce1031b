"""A backend without a model, whose memory is token lists.

What a slot holds is simulated position by position, the harmless writes behind idle slots too, and the next
token is a function of what a slot really holds. So a wrong slot, move, length or order changes a text.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import decoders, models, pre_tokenizers

from tests.fixtures.tiny_llama import SPECIAL_TOKENS, vocabulary
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.plan import Chunk, StepPlan
from workers.runtime.text.tokenizer import Tokenizer

GARBAGE: Final = -1
"""What a batched run leaves behind the tokens of an idle slot."""

VOCABULARY: Final = len(vocabulary()[0])


def byte_tokenizer() -> Tokenizer:
    """The byte-level tokenizer of the tiny fixture."""
    tokens, merges = vocabulary()
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    backend = tokenizers.Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(backend)


def fake_description(**changes: object) -> ModelDescription:
    """What stands beside the byte-level tokenizer in a prepared artefact; no template unless one is given."""
    description = ModelDescription(
        name="fake",
        architecture="none",
        precision="fp32",
        vocab_size=VOCABULARY,
        context_length=64,
        layers=1,
        kv_heads=1,
        head_dim=1,
        hidden_size=1,
        bos_token_id=0,
        eos_token_ids=(SPECIAL_TOKENS.index("<|im_end|>"),),
        add_bos=False,
        bos_token="<|endoftext|>",  # noqa: S106  # no password
        eos_token="<|im_end|>",  # noqa: S106  # no password
        chat_template=None,
        kv_bytes_per_token=8,
    )
    return dataclasses.replace(description, **changes)


@dataclass
class FakeBackend:
    """Answers by rote where ``answers`` knows the prompt, else by a function of all that a slot holds."""

    slots: int = 4
    max_length: int = 64
    answers: Mapping[tuple[int, ...], Sequence[int]] = field(default_factory=dict)
    """Prompt -> the tokens that greedy decoding gives it."""
    broken_at: frozenset[tuple[int, ...]] = frozenset()
    """Contents of a slot behind which the logits are NaN."""
    before_step: Callable[[StepPlan], None] = lambda _: None
    """Called with every plan before it is carried out."""
    plans: list[StepPlan] = field(default_factory=list)
    """What was carried out."""

    def __post_init__(self) -> None:
        self._memory = np.full((self.slots, self.max_length), GARBAGE, np.int64)

    def forward(self, plan: StepPlan) -> NDArray[np.float32]:
        """Carries out a plan as an engine with shared buffers does."""
        self.before_step(plan)
        self.plans.append(plan)
        for move in plan.moves:
            self._memory[move.target, : move.length] = self._memory[move.source, : move.length]
        logits = [self._prefill(chunk) for chunk in plan.chunks]
        logits += self._decode(plan)
        wanted = [row for row in logits if row is not None]
        return np.array(wanted, np.float32).reshape(len(wanted), VOCABULARY)

    def _prefill(self, chunk: Chunk) -> NDArray[np.float32] | None:
        end = chunk.start + len(chunk.tokens)
        assert chunk.tokens
        assert end < self.max_length
        self._memory[chunk.slot, chunk.start : end] = chunk.tokens
        return self._logits(chunk.slot, end) if chunk.last else None

    def _decode(self, plan: StepPlan) -> list[NDArray[np.float32]]:
        if not plan.rows:
            return []
        inputs = dict.fromkeys(plan.idle, GARBAGE) | {(row.slot, row.past): row.token for row in plan.rows}
        assert sorted(slot for slot, _ in inputs) == list(range(plan.rows[-1].slot + 1))
        for (slot, past), token in inputs.items():
            self._memory[slot, past] = token
        return [self._logits(row.slot, row.past + 1) for row in plan.rows]

    def _logits(self, slot: int, length: int) -> NDArray[np.float32]:
        held = tuple(self._memory[slot, :length].tolist())
        if held in self.broken_at:
            return np.full(VOCABULARY, np.nan, np.float32)
        logits = np.random.default_rng([token + 1 for token in held]).standard_normal(VOCABULARY)
        logits[: len(SPECIAL_TOKENS)] = -100.0  # no answer ends by itself
        for prompt, answer in self.answers.items():
            given = length - len(prompt)
            if held[: len(prompt)] == prompt and 0 <= given < len(answer):
                logits[answer[given]] = 100.0
        return logits.astype(np.float32)
