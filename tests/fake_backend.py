"""A backend without a model, whose memory is token lists.

What a slot holds is simulated position by position, and the next token is a function of what a slot really
holds. So a wrong slot, swap, copy, release, length or order changes a text. It can have eyes: what a slot
holds of a picture is then what was really in its pixels.
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
from workers.runtime.vision import Idefics3, VisionDescription

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


VISION: Final = VisionDescription(
    image_token="<|image|>",  # noqa: S106  # no password
    image_token_id=VOCABULARY,
    tile_size=8,
    tile_rows=2,
    longest_edge=32,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    fake_token="[",  # noqa: S106  # no password
    global_token=":",  # noqa: S106  # no password
)
"""Eyes that take two rows a tile. The tokenizer of :func:`seeing_tokenizer` knows the image token."""

SEEING_TEMPLATE: Final = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}\n{% endfor %}"
)


def seeing_tokenizer() -> Tokenizer:
    """The byte-level tokenizer with an image token."""
    backend = tokenizers.Tokenizer.from_str(byte_tokenizer().to_json())
    backend.add_special_tokens(["<|image|>"])
    return Tokenizer(backend)


@dataclass
class FakeEyes:
    """Sees a number in every half of a tile: what a row of its features is."""

    preprocessor: Idefics3 = field(default_factory=lambda: Idefics3(VISION))
    row_bytes: int = 4
    rows: dict[int, int] = field(default_factory=dict)
    """Id -> the row that is kept under it."""
    tiles: int = 0
    """How many were encoded."""

    def encode(self, ids: range, pixels: NDArray[np.float32]) -> None:
        """Keeps sums of the pixels, apart from all token ids."""
        assert pixels.shape == (1, 3, VISION.tile_size, VISION.tile_size)
        self.tiles += 1
        for token, half in zip(ids, np.array_split(pixels, len(ids), axis=2), strict=True):
            weights = np.arange(1, half.size + 1).reshape(half.shape)
            self.rows[token] = VOCABULARY + 1 + int((half * weights).sum() * 255)

    def forget(self, ids: range) -> None:
        """Forgets."""
        for token in ids:
            self.rows.pop(token, None)


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
    most_guessing: int = 64
    eyes: FakeEyes | None = None

    def __post_init__(self) -> None:
        self._memory = np.full((self.slots, self.max_length), GARBAGE, np.int64)

    def forward(self, plan: StepPlan) -> StepResult:
        """Carries out a plan as an engine with shared buffers does; prefill and decode take a second each."""
        if plan.chunks or plan.rows or plan.staged or plan.encode:
            self.before_step(plan)
            self.plans.append(plan)
        for change in plan.changes:
            self._change(change)
        if plan.staged and not plan.staged.complete:
            self._memory[plan.staged.chunk.slot, plan.staged.chunk.start :] = GARBAGE
        wanted = [row for chunk in plan.complete for row in self._prefill(chunk)]
        assert not plan.prompt_tokens or not any(row.drafts for row in plan.rows)
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
        self._memory[chunk.slot, chunk.start : end] = [self._held(token) for token in chunk.tokens]
        return [self._logits(chunk.slot, end)] if chunk.last else []

    def _held(self, token: int) -> int:
        """What is remembered of a token: of a row of a picture's features, what was seen there."""
        if token >= 0:
            return token
        assert self.eyes is not None
        return self.eyes.rows[token]

    def _decode(self, slot: int, row: Row) -> list[NDArray[np.float32]]:
        tokens = (row.token, *row.drafts)
        assert row.past + len(tokens) <= self.max_length
        assert min(tokens) >= 0
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
