"""The ONNX Runtime backend: KV slots in shared buffers, and one step of prefill and ragged decode.

Every layer's keys and values live in one float32 array ``[slots, kv_heads, length, head_dim]`` that is bound
as past and as present, so the graph appends in place and nothing is copied in a step. Row ``i`` is slot
``i``. The arrays are mapped lazily: a slot costs the pages that its tokens touch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from workers.onnx_worker.eyes import OnnxEyes, open_eyes
from workers.onnx_worker.seen import Seen
from workers.onnx_worker.session import BoundRun, open_session
from workers.onnx_worker.stages import StagedRun, Stages
from workers.runtime import heap
from workers.runtime.artefact import MODEL_FILE, ModelDescription
from workers.runtime.engine.backend import StepResult
from workers.runtime.engine.changes import carry_out
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.padding import padded_runs
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.kv_cache import KVCache

_WARM_LENGTH: Final = 8
"""Tokens of the run that lets ONNX Runtime allocate its arenas before the first request."""


class OnnxBackend:
    """Runs a prepared in-place graph (``workers.onnx_worker.convert.graph``) on the CPU."""

    def __init__(self, description: ModelDescription, config: EngineConfig) -> None:
        self._max_length = min(config.max_length or description.context_length, description.context_length)
        self._description = description
        self._vocabulary = description.vocab_size
        self._session = open_session(config.folder / MODEL_FILE, threads=config.threads)
        self._stages = Stages(
            config.folder,
            hidden_size=description.hidden_size,
            vocab_size=description.vocab_size,
            threads=config.threads,
        )
        self._staged: StagedRun | None = None
        self._eyes = open_eyes(description, config)
        self._cache = KVCache(description, slots=config.rows, max_length=self._max_length)
        self._decode_logits = np.empty((config.slots, description.vocab_size), np.float32)
        self._draft_logits = self._decode_logits
        self._decode_runs: dict[int, BoundRun] = {}  # batch size -> run of a token a row, bound once
        self._draft_runs: dict[tuple[int, int], BoundRun] = {}  # batch size, tokens a row -> run
        self._warm(config.slots)

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold: the configured length, within the model's context."""
        return self._max_length

    @property
    def stages(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return max(len(self._stages), 1)

    @property
    def most_guessing(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return len(self._decode_logits)

    @property
    def eyes(self) -> OnnxEyes | None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._eyes

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step; see :class:`workers.runtime.engine.backend.Backend`."""
        carry_out(plan.changes, self._cache)
        began = time.perf_counter()
        logits = [self._prefill(chunks) for chunks in padded_runs(plan.chunks)]
        if plan.staged:
            logits.append(self._advance(plan.staged))
        between = time.perf_counter()
        if plan.rows:
            logits.append(self._decode(plan.rows))
        ended = time.perf_counter()
        if not logits:
            logits.append(self._decode_logits[:0])
        all_logits = logits[0] if len(logits) == 1 else np.concatenate(logits)
        return StepResult(all_logits, between - began, ended - between)

    def trim(self) -> None:
        """See :class:`workers.runtime.engine.backend.Backend`.

        ONNX Runtime keeps the largest blocks it ever needed, for attention scores of a long prompt's chunk
        above all; a run that asks for it lets them go. It is a run over a token of a cache of its own.
        """
        self._staged = None
        self._stages.trim()
        if self._eyes is not None:
            self._eyes.trim()
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        cache = KVCache(self._description, slots=1, max_length=_WARM_LENGTH).rows(0, 1)
        run = self._bound(cache, (1, 1), np.empty((0, self._vocabulary), np.float32))
        run(total_length=1, options=options)
        heap.give_back()

    def _prefill(self, chunks: list[Chunk]) -> NDArray[np.float32]:
        """A batch of one row a chunk, padded on the right. Returns ``[last chunks, vocabulary]``."""
        width = max(len(chunk.tokens) for chunk in chunks)
        logits = np.empty((sum(chunk.last for chunk in chunks), self._vocabulary), np.float32)
        rows = self._cache.rows(chunks[0].slot, len(chunks))
        ids = np.zeros((len(chunks), width), np.int64)
        for row, chunk in enumerate(chunks):
            ids[row, : len(chunk.tokens)] = chunk.tokens
        seen = None if self._eyes is None else Seen.taken_from(ids, self._eyes.gather)
        run = BoundRun(self._session, rows, (len(chunks), width), logits, seen)
        run.input_ids[:] = ids
        ends = []
        for row, chunk in enumerate(chunks):
            self._extend(run, row, chunk.slot, chunk.end, len(chunk.tokens))
            if chunk.last:
                ends.append(row * width + len(chunk.tokens) - 1)
        run.logit_rows[:] = ends
        return run(total_length=int(run.seqlens_k.max()) + 1)

    def _extend(self, run: BoundRun, row: int, slot: int, length: int, tokens: int) -> None:
        """Has a row of a run make a slot ``length`` tokens long by as many tokens as it takes in."""
        self._cache.reserve(slot, length)
        run.query_seqlens[row] = tokens
        run.seqlens_k[row] = length - 1

    def _advance(self, staged: StagedChunk) -> NDArray[np.float32]:
        """Some stages of a piece. Returns ``[1, vocabulary]`` or no row, as :meth:`_prefill` does."""
        chunk = staged.chunk
        if staged.of == 1:
            return self._prefill([chunk])
        if staged.first == 0:
            self._cache.reserve(chunk.slot, chunk.end)
            gather = None if self._eyes is None else self._eyes.gather
            self._staged = self._stages.begin(chunk, self._cache.rows(chunk.slot, 1), gather)
        assert self._staged is not None  # noqa: S101  # a plan before began it
        logits = self._staged.advance(staged.count)
        if staged.complete:
            self._staged = None
        return logits

    def _decode(self, rows: tuple[Row, ...]) -> NDArray[np.float32]:
        """A batch of slots ``0 … len(rows)-1``, with a token each or, padded, with drafts behind it."""
        tokens = [(row.token, *row.drafts) for row in rows]
        width = max(map(len, tokens))
        run = self._decode_run(len(rows)) if width == 1 else self._draft_run(len(rows), width)
        for slot, (row, taken) in enumerate(zip(rows, tokens, strict=True)):
            run.input_ids[slot, : len(taken)] = taken
            self._extend(run, slot, slot, row.past + len(taken), len(taken))
        if width > 1:
            places = [slot * width + i for slot, taken in enumerate(tokens) for i in range(len(taken))]
            if len(places) > len(self._draft_logits):
                self._draft_logits = np.empty((len(places), self._vocabulary), np.float32)
            run.want(places, self._draft_logits[: len(places)])
        return run(total_length=int(run.seqlens_k.max()) + 1)

    def _decode_run(self, batch: int) -> BoundRun:
        run = self._decode_runs.get(batch)
        if run is None:
            rows = self._cache.rows(0, batch)
            logits = self._decode_logits[:batch]
            run = self._decode_runs[batch] = self._bound(rows, (batch, 1), logits)
            run.logit_rows[:] = np.arange(batch)
        return run

    def _draft_run(self, batch: int, width: int) -> BoundRun:
        run = self._draft_runs.get((batch, width))
        if run is None:
            rows = self._cache.rows(0, batch)
            run = self._bound(rows, (batch, width), self._decode_logits[:0])
            self._draft_runs[batch, width] = run
        return run

    def _bound(
        self, cache: Mapping[str, NDArray[np.float32]], shape: tuple[int, int], logits: NDArray[np.float32]
    ) -> BoundRun:
        """A run over text."""
        seen = None if self._eyes is None else Seen.nothing(self._description.hidden_size)
        return BoundRun(self._session, cache, shape, logits, seen)

    def _warm(self, slots: int) -> None:
        tokens = (0,) * min(_WARM_LENGTH, self._max_length - 1)
        self._prefill([Chunk(sequence=0, slot=0, start=0, tokens=tokens, last=True)])
        for slot in range(slots):
            self._cache.reserve(slot, len(tokens) + 1)
        for batch in {1, slots}:
            run = self._decode_run(batch)
            run.seqlens_k[:] = len(tokens)
            run(total_length=len(tokens) + 1)
        for slot in range(slots):
            self._cache.release(slot, 0)
