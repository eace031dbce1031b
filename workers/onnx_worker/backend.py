"""The ONNX Runtime backend: KV slots in shared buffers, and one step of prefill and ragged decode.

Every layer's keys and values live in one float32 array ``[slots, kv_heads, max_length, head_dim]`` that is
bound as past and as present, so the graph appends in place and nothing is copied in a step. Row ``i`` is slot
``i``. The arrays are mapped lazily: a slot costs the pages that its tokens touch.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.kv_cache import KVCache
from workers.onnx_worker.session import BoundRun, open_session
from workers.runtime.artefact import MODEL_FILE, ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, StepPlan

_WARM_LENGTH: Final = 8
"""Tokens of the run that lets ONNX Runtime allocate its arenas before the first request."""


class OnnxBackend:
    """Runs a prepared in-place graph (``workers.onnx_worker.convert.graph``) on the CPU."""

    def __init__(self, description: ModelDescription, config: EngineConfig) -> None:
        self._max_length = min(config.max_length or description.context_length, description.context_length)
        self._vocabulary = description.vocab_size
        self._session = open_session(config.folder / MODEL_FILE, threads=config.threads)
        self._cache = KVCache(description, slots=config.slots, max_length=self._max_length)
        self._decode_logits = np.empty((config.slots, description.vocab_size), np.float32)
        self._decode_runs: dict[int, BoundRun] = {}  # batch size -> run, bound once
        self._warm(config.slots)

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold: the configured length, within the model's context."""
        return self._max_length

    def forward(self, plan: StepPlan) -> NDArray[np.float32]:
        """Runs one step; see :class:`workers.runtime.engine.backend.Backend`."""
        for move in plan.moves:
            self._cache.move(move)
        logits = [self._prefill(chunk) for chunk in plan.chunks]
        if plan.rows:
            logits.append(self._decode(plan))
        return logits[0] if len(logits) == 1 else np.concatenate(logits)

    def _prefill(self, chunk: Chunk) -> NDArray[np.float32]:
        """A batch of one row, the chunk's slot. Returns ``[1, vocabulary]``, or no row for a middle chunk."""
        tokens = len(chunk.tokens)
        logits = np.empty((int(chunk.last), self._vocabulary), np.float32)
        run = BoundRun(self._session, self._cache.rows(chunk.slot, 1), (1, tokens), logits)
        run.input_ids[0] = chunk.tokens
        run.seqlens_k[0] = chunk.start + tokens - 1
        run.logit_rows[:] = tokens - 1
        return run(total_length=chunk.start + tokens)

    def _decode(self, plan: StepPlan) -> NDArray[np.float32]:
        """A batch of slots ``0 … highest``; idle ones write behind what they hold, which is harmless."""
        run = self._decode_run(plan.rows[-1].slot + 1)
        for slot, past in plan.idle:
            run.seqlens_k[slot] = past
        for row in plan.rows:
            run.input_ids[row.slot, 0] = row.token
            run.seqlens_k[row.slot] = row.past
        logits = run(total_length=int(run.seqlens_k.max()) + 1)
        return logits[[row.slot for row in plan.rows]] if plan.idle else logits

    def _decode_run(self, batch: int) -> BoundRun:
        run = self._decode_runs.get(batch)
        if run is None:
            rows = self._cache.rows(0, batch)
            logits = self._decode_logits[:batch]
            run = self._decode_runs[batch] = BoundRun(self._session, rows, (batch, 1), logits)
            run.logit_rows[:] = np.arange(batch)
        return run

    def _warm(self, slots: int) -> None:
        tokens = (0,) * min(_WARM_LENGTH, self._max_length - 1)
        self._prefill(Chunk(sequence=0, slot=0, start=0, tokens=tokens, last=True))
        for batch in {1, slots}:
            run = self._decode_run(batch)
            run.seqlens_k[:] = len(tokens)
            run(total_length=len(tokens) + 1)
