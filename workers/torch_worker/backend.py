"""The PyTorch backend: one step of prefill and ragged decode over slots."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from workers.runtime import heap
from workers.runtime.artefact import ModelDescription
from workers.runtime.cores import usable_cores
from workers.runtime.engine.backend import Eyes, StepResult
from workers.runtime.engine.changes import carry_out
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.padding import padded_runs
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.torch_worker.device import CPU, choose
from workers.torch_worker.loading import load
from workers.torch_worker.span import Span
from workers.torch_worker.threads import DecodeThreads

_WARM_LENGTH: Final = 8


class TorchBackend:
    """Runs a prepared artefact of :mod:`workers.torch_worker.convert`."""

    def __init__(self, description: ModelDescription, config: EngineConfig) -> None:
        torch.set_grad_enabled(mode=False)
        threads = config.threads or usable_cores()
        torch.set_num_threads(threads)
        self._max_length = min(config.max_length or description.context_length, description.context_length)
        self._vocabulary = description.vocab_size
        self._device = choose(config.device)
        # Float products come out otherwise with another number of threads, in their last bits.
        exact = self._device == CPU and description.precision == "int8"
        self._threads = DecodeThreads(threads if exact else 1, torch.set_num_threads)
        loaded = load(description, config, self._max_length, self._device)
        self._runner, self._eyes = loaded.runner, loaded.eyes
        self._warm(config.slots)

    @property
    def max_length(self) -> int:
        """Tokens that a slot can hold: the configured length, within the model's context."""
        return self._max_length

    @property
    def stages(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`; a chunk is computed as a whole."""
        return 1

    @property
    def most_guessing(self) -> int:
        """One: several rows take in a token each, or begin."""
        return 1

    @property
    def eyes(self) -> Eyes | None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._eyes

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step; see :class:`workers.runtime.engine.backend.Backend`."""
        carry_out(plan.changes, self._runner)
        began = time.perf_counter()
        logits = [self._prefill(chunks) for chunks in padded_runs(plan.chunks, beginnings=True)]
        if plan.staged:
            logits.append(self._staged(plan.staged))
        between = time.perf_counter()
        if plan.rows:
            self._threads.begin(len(plan.rows))
            logits.append(self._decode(plan.rows))
        ended = time.perf_counter()
        if plan.rows:
            self._threads.end(ended - between)
        if not logits:
            logits.append(np.empty((0, self._vocabulary), np.float32))
        all_logits = logits[0] if len(logits) == 1 else np.concatenate(logits)
        return StepResult(all_logits, between - began, ended - between)

    def trim(self) -> None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        heap.give_back()

    def _prefill(self, chunks: list[Chunk]) -> NDArray[np.float32]:
        """A run of one row a chunk. Returns ``[last chunks, vocabulary]``."""
        width = max(len(chunk.tokens) for chunk in chunks)
        for chunk in chunks:
            self._runner.reserve(chunk.slot, chunk.start + width)
        return self._run([Span(each.slot, each.start, each.tokens, int(each.last)) for each in chunks])

    def _staged(self, staged: StagedChunk) -> NDArray[np.float32]:
        """The whole piece, which has one stage. Returns ``[1, vocabulary]`` or no row."""
        return self._prefill([staged.chunk])

    def _decode(self, rows: tuple[Row, ...]) -> NDArray[np.float32]:
        """A run of slots ``0 … len(rows)-1``; or several tokens of slot 0, if there are drafts."""
        spans = []
        for slot, row in enumerate(rows):
            tokens = (row.token, *row.drafts)
            self._runner.reserve(slot, row.past + len(tokens))
            spans.append(Span(slot, row.past, tokens, len(tokens)))
        return self._run(spans)

    def _run(self, spans: list[Span]) -> NDArray[np.float32]:
        logits = self._runner.run(spans).float().cpu().numpy()
        # What a model pads its vocabulary with is no token.
        return logits[:, : self._vocabulary]

    @torch.inference_mode()
    def _warm(self, slots: int) -> None:
        tokens = (0,) * min(_WARM_LENGTH, self._max_length - 1)
        self._prefill([Chunk(sequence=0, slot=0, start=0, tokens=tokens, last=True)])
        for batch in {1, slots}:
            self._decode(tuple(Row(slot, len(tokens) if slot == 0 else 0, 0) for slot in range(batch)))
        for slot in range(slots):
            self._runner.release(slot, 0)
        heap.give_back()
