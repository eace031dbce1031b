"""A backend without a model, whose memory is token lists.

What a slot holds is simulated position by position, and the next token is a function of what a slot really
holds. So a wrong slot, swap, copy, release, length or order changes a text.
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
from workers.runtime.engine.backend import StepResult
from workers.runtime.engine.plan import Change, Chunk, Copy, Release, Row, StepPlan, Swap
from workers.runtime.text.tokenizer import Tokenizer

GARBAGE: Final = -1
"""What a slot holds where nothing was written, or where it was given back."""

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

    slots: int = 16
    max_length: int = 64
    answers: Mapping[tuple[int, ...], Sequence[int]] = field(default_factory=dict)
    """Prompt -> the tokens that greedy decoding gives it."""
    broken_at: frozenset[tuple[int, ...]] = frozenset()
    """Contents of a slot behind which the logits are NaN."""
    before_step: Callable[[StepPlan], None] = lambda _: None
    """Called with every plan before it is carried out."""
    plans: list[StepPlan] = field(default_factory=list)
    """What was carried out, as far as it computed something."""
    trims: int = 0
    """How often working memory was to be given back."""
    stages: int = 1

    def __post_init__(self) -> None:
        self._memory = np.full((self.slots, self.max_length), GARBAGE, np.int64)

    def forward(self, plan: StepPlan) -> StepResult:
        """Carries out a plan as an engine with shared buffers does; prefill and decode take a second each."""
        if plan.chunks or plan.rows or plan.staged:
            self.before_step(plan)
            self.plans.append(plan)
        for change in plan.changes:
            self._change(change)
        if plan.staged and not plan.staged.complete:
            self._memory[plan.staged.chunk.slot, plan.staged.chunk.start :] = GARBAGE
        wanted = [row for chunk in plan.complete for row in self._prefill(chunk)]
        assert len(plan.rows) <= 1 or not any(row.drafts for row in plan.rows)
        wanted += [logits for slot, row in enumerate(plan.rows) for logits in self._decode(slot, row)]
        logits = np.array(wanted, np.float32).reshape(len(wanted), VOCABULARY)
        return StepResult(logits, float(bool(plan.chunks or plan.staged)), float(bool(plan.rows)))

    def trim(self) -> None:
        """Counts."""
        self.trims += 1

    def held(self, slot: int) -> list[int]:
        """What a slot holds before the first garbage."""
        memory: list[int] = self._memory[slot].tolist()
        return memory[: memory.index(GARBAGE)] if GARBAGE in memory else memory

    def _change(self, change: Change) -> None:
        match change:
            case Swap(a, b):
                self._memory[[a, b]] = self._memory[[b, a]]
            case Copy(source, target, start, end):
                self._memory[target, start:end] = self._memory[source, start:end]
            case Release(slot, keep):
                self._memory[slot, keep:] = GARBAGE

    def _prefill(self, chunk: Chunk) -> list[NDArray[np.float32]]:
        end = chunk.start + len(chunk.tokens)
        assert chunk.tokens
        assert end < self.max_length
        self._memory[chunk.slot, chunk.start : end] = chunk.tokens
        return [self._logits(chunk.slot, end)] if chunk.last else []

    def _decode(self, slot: int, row: Row) -> list[NDArray[np.float32]]:
        tokens = (row.token, *row.drafts)
        assert row.past + len(tokens) <= self.max_length
        self._memory[slot, row.past : row.past + len(tokens)] = tokens
        return [self._logits(slot, row.past + i + 1) for i in range(len(tokens))]

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
