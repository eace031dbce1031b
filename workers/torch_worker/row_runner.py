"""The plain path: one sequence at a time, through transformers' own cache and attention.

For architectures whose attention isn't the library's common one, so that rows can't share a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from workers.torch_worker.inputs import Inputs
from workers.torch_worker.span import Span
from workers.torch_worker.wanted_rows import WantedRows


class RowRunner:
    """A :class:`~workers.torch_worker.runner.Runner` that knows nothing of its model's insides.

    Args:
        model: Any causal model.
        head: The part of it that makes logits.
        inputs: What it is given for token ids.
        slots: How many.
        device: Where the model computes.
    """

    def __init__(
        self, model: nn.Module, head: nn.Module, inputs: Inputs, slots: int, device: torch.device
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._wanted = WantedRows(head)
        self._caches = [DynamicCache() for _ in range(slots)]  # slot -> what it holds
        self._device = device

    def run(self, spans: Sequence[Span]) -> torch.Tensor:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        return torch.cat([self._run(span) for span in spans])

    def reserve(self, slot: int, tokens: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`; caches grow by themselves."""

    def swap(self, a: int, b: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        self._caches[a], self._caches[b] = self._caches[b], self._caches[a]

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        self.release(target, start)
        for index, layer in enumerate(self._caches[source].layers):
            keys, values = (held[:, :, start:end].clone() for held in _held(layer))
            self._caches[target].update(keys, values, index)

    def release(self, slot: int, keep: int) -> None:
        """See :class:`~workers.torch_worker.runner.Runner`."""
        if keep == 0:
            self._caches[slot] = DynamicCache()
            return
        layers: list[Any] = self._caches[slot].layers
        for layer in layers:
            keys, values = _held(layer)
            if keys.shape[2] > keep:
                # A view would keep all of it.
                layer.keys, layer.values = keys[:, :, :keep].clone(), values[:, :, :keep].clone()

    def _run(self, span: Span) -> torch.Tensor:
        self.release(span.slot, span.start)
        width = len(span.tokens)
        self._wanted.choose([span], width, self._device)
        outputs = self._model(
            **self._inputs.of(torch.tensor([span.tokens], device=self._device)),
            position_ids=torch.arange(span.start, span.end, device=self._device)[None],
            attention_mask=torch.ones((1, span.end), dtype=torch.int64, device=self._device),
            cache=self._caches[span.slot],
            use_cache=True,
        )
        logits: torch.Tensor = outputs.logits
        return logits.reshape(-1, logits.shape[-1])


def _held(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values, ``[1, kv_heads, tokens, head_dim]``; the library has layers without them too."""
    return layer.keys, layer.values
