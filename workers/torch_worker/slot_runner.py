"""Causal models in slots: one run for all rows, whatever their lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from workers.torch_worker.inputs import Inputs
from workers.torch_worker.slot_cache import SlotCache, Step
from workers.torch_worker.slot_memory import SlotMemory
from workers.torch_worker.span import Span
from workers.torch_worker.wanted_rows import WantedRows


class SlotRunner:
    """A :class:`~workers.torch_worker.runner.Runner` whose rows are computed together.

    Args:
        model: Built with the attention of :mod:`~workers.torch_worker.slot_attention`.
        head: The part of it that makes logits.
        inputs: What it is given for token ids.
        cache: The slots.
        memory: Where the cache lies.
        device: Where the model computes.
        mutual: Whether the rows of a picture attend to each other in both directions.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        head: nn.Module,
        inputs: Inputs,
        cache: SlotCache,
        memory: SlotMemory,
        device: torch.device,
        mutual: bool = False,
    ) -> None:
        self._model = model
        self._mutual = mutual
        self._wanted = WantedRows(head)
        self._inputs = inputs
        self._cache = cache
        self._device = device
        self.reserve = memory.reserve
        self.swap = memory.swap
        self.copy = memory.copy
        self.release = memory.release

    def run(self, spans: Sequence[Span]) -> torch.Tensor:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        step = self._cache.step = Step(spans, self._device, mutual=self._mutual)
        ids = torch.zeros((step.rows, step.width), dtype=torch.int64)
        for row, span in enumerate(spans):
            ids[row, : len(span.tokens)] = torch.tensor(span.tokens, dtype=torch.int64)
        self._wanted.choose(spans, step.width, self._device)
        given = self._inputs.of(ids.to(self._device))
        outputs = self._model(**given, position_ids=step.positions, cache=self._cache, use_cache=True)
        logits: torch.Tensor = outputs.logits
        return logits.reshape(-1, logits.shape[-1])
