"""The backend of integer rows: everything but the eyes is computed by the compiled functions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.decoder import CompiledDecoder, CompiledRun, Span
from workers.runtime import heap
from workers.runtime.artefact import ModelDescription
from workers.runtime.cores import usable_cores
from workers.runtime.engine.backend import StepResult
from workers.runtime.engine.changes import carry_out
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.kv_cache import KVCache

if TYPE_CHECKING:
    from workers.onnx_worker.eyes import OnnxEyes

_STAGES: Final = 10
"""Parts of a staged piece at most, of as many layers each but for the last."""


class CompiledBackend:
    """Runs a prepared artefact of integer rows on a processor that the functions are for.

    Keys and values lie as :class:`~workers.onnx_worker.backend.OnnxBackend` has them. Tokens of any number of
    slots are rows of one run, however many each takes in; nothing is padded.
    """

    def __init__(self, description: ModelDescription, config: EngineConfig, code: Path) -> None:
        self._max_length = min(config.max_length or description.context_length, description.context_length)
        self._vocabulary = description.vocab_size
        self._layers = description.layers
        self._eyes = _open_eyes(description, config)
        self._cache = KVCache(description, slots=config.rows, max_length=self._max_length)
        self._decoder = CompiledDecoder(
            config.folder,
            code,
            self._cache,
            slots=config.rows,
            threads=config.threads or usable_cores(),
        )
        self._logits = self._empty(config.slots)
        self._most_guessing = config.slots
        self._staged: CompiledRun | None = None
        self._warm()

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold: the configured length, within the model's context."""
        return self._max_length

    @property
    def stages(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return -(-self._layers // self._stage_layers)

    @property
    def most_guessing(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._most_guessing

    @property
    def eyes(self) -> OnnxEyes | None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._eyes

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step; see :class:`workers.runtime.engine.backend.Backend`."""
        carry_out(plan.changes, self._cache)
        began = time.perf_counter()
        logits = [self._prefill(plan.chunks)] if plan.chunks else []
        if plan.staged:
            logits.append(self._advance(plan.staged))
        between = time.perf_counter()
        if plan.rows:
            logits.append(self._decode(plan.rows))
        ended = time.perf_counter()
        if not logits:
            logits.append(self._logits[:0, : self._vocabulary])
        all_logits = logits[0] if len(logits) == 1 else np.concatenate(logits)
        return StepResult(all_logits, between - began, ended - between)

    def trim(self) -> None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        self._staged = None
        self._decoder.trim()
        self._logits = self._logits[: self._most_guessing].copy()
        if self._eyes is not None:
            self._eyes.trim()
        heap.give_back()

    @property
    def _stage_layers(self) -> int:
        return -(-self._layers // _STAGES)

    def _prefill(self, chunks: tuple[Chunk, ...]) -> NDArray[np.float32]:
        """All chunks in one run. Returns ``[last chunks, vocabulary]``."""
        ends = np.cumsum([len(chunk.tokens) for chunk in chunks]) - 1
        wanted = [int(end) for chunk, end in zip(chunks, ends, strict=True) if chunk.last]
        logits = self._empty(len(wanted))
        for chunk in chunks:
            self._cache.reserve(chunk.slot, chunk.end)
        spans, features = self._spans(chunks)
        self._decoder.run(spans, wanted, logits, features)
        return logits[:, : self._vocabulary]

    def _advance(self, staged: StagedChunk) -> NDArray[np.float32]:
        """Some stages of a piece. Returns ``[1, vocabulary]`` or no row, as :meth:`_prefill` does."""
        chunk = staged.chunk
        if staged.first == 0:
            wanted = [len(chunk.tokens) - 1] if chunk.last else []
            (span,), features = self._spans((chunk,))
            logits = self._empty(len(wanted))
            self._staged = self._decoder.begin(span, wanted, logits, features)
        assert self._staged is not None  # noqa: S101  # a plan before began it
        first, layer = (
            min(stage * self._stage_layers, self._layers)
            for stage in (staged.first, staged.first + staged.count)
        )
        self._cache.reserve(chunk.slot, chunk.end, range(first, layer))
        logits = self._staged.advance(layer)[:, : self._vocabulary]
        if not staged.complete:
            return logits[:0]
        self._staged = None
        return logits

    def _spans(self, chunks: tuple[Chunk, ...]) -> tuple[list[Span], NDArray[np.float32] | None]:
        """Chunks, and the features that take the place of embeddings in them."""
        spans, seen = [], list[int]()
        for chunk in chunks:
            tokens = np.array(chunk.tokens, np.int64)
            pictured = tokens < 0
            if pictured.any():
                ids = tokens[pictured]
                tokens[pictured] = -1 - np.arange(len(seen), len(seen) + len(ids))
                seen += ids.tolist()
            spans.append(Span(chunk.slot, chunk.start, tokens))
        if not seen:
            return spans, None
        assert self._eyes is not None  # noqa: S101  # token ids are negative for a model that sees only
        return spans, self._eyes.gather(seen)

    def _decode(self, rows: tuple[Row, ...]) -> NDArray[np.float32]:
        """Slots ``0 … len(rows)-1``, with a token each or with drafts behind it."""
        spans = []
        for slot, row in enumerate(rows):
            tokens = (row.token, *row.drafts)
            self._cache.reserve(slot, row.past + len(tokens))
            spans.append(Span(slot, row.past, tokens))
        count = sum(len(span.tokens) for span in spans)
        if count > len(self._logits):
            self._logits = self._empty(count)
        logits = self._logits[:count]
        self._decoder.run(spans, range(count), logits)
        return logits[:, : self._vocabulary]

    def _empty(self, count: int) -> NDArray[np.float32]:
        """Room for logits, as wide as the decoder wants it."""
        return np.empty((count, self._decoder.logits_width), np.float32)

    def _warm(self) -> None:
        """A first token, which touches all weights."""
        self._cache.reserve(0, 1)
        self._decoder.run([Span(0, 0, (0,))], [0], self._logits[:1])
        self._cache.release(0, 0)


def _open_eyes(description: ModelDescription, config: EngineConfig) -> OnnxEyes | None:
    """Eyes are ONNX Runtime's, which a model of text does without."""
    if description.vision is None:
        return None
    from workers.onnx_worker.eyes import open_eyes  # noqa: PLC0415

    return open_eyes(description, config)
