"""Causal models in slots: one run for all rows, whatever their lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from workers.torch_worker.inputs import Inputs
from workers.torch_worker.rotary_positions import RotaryPositions
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
        positions: Of what the slots hold, where they have several dimensions.
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
        positions: RotaryPositions | None = None,
    ) -> None:
        self._model = model
        self._mutual = mutual
        self._wanted = WantedRows(head)
        self._inputs = inputs
        self._cache = cache
        self._device = device
        self._memory = memory
        self._positions = positions
        self.reserve = memory.reserve
        self.release = memory.release

    def swap(self, a: int, b: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        self._memory.swap(a, b)
        if self._positions:
            self._positions.swap(a, b)

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        self._memory.copy(source, target, start, end)
        if self._positions:
            self._positions.copy(source, target, start, end)

    def run(self, spans: Sequence[Span]) -> torch.Tensor:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        step = self._cache.step = Step(spans, self._device, mutual=self._mutual)
        ids = torch.zeros((step.rows, step.width), dtype=torch.int64)
        for row, span in enumerate(spans):
            ids[row, : len(span.tokens)] = torch.tensor(span.tokens, dtype=torch.int64)
        self._wanted.choose(spans, step.width, self._device)
        given = self._inputs.of(ids.to(self._device))
        positions = self._positions.take(spans, step.width) if self._positions else step.positions
        outputs = self._model(**given, position_ids=positions, cache=self._cache, use_cache=True)
        logits: torch.Tensor = outputs.logits
        return logits.reshape(-1, logits.shape[-1])
