"""Logits for the wanted positions only: what others would come to is never computed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from workers.torch_worker.span import Span


class WantedRows:
    """Takes the wanted rows out of the hidden states before a model's head gets them.

    Args:
        head: The module that makes logits of hidden states.
    """

    def __init__(self, head: nn.Module) -> None:
        self._index: torch.Tensor | None = None
        head.register_forward_pre_hook(self._chosen)

    def choose(self, spans: Sequence[Span], width: int, device: torch.device) -> None:
        """Wants, in the next run, what the spans want; each is a row padded on the right to ``width``."""
        places = [
            row * width + len(span.tokens) - span.wanted + offset
            for row, span in enumerate(spans)
            for offset in range(span.wanted)
        ]
        everything = len(places) == len(spans) * width
        self._index = None if everything else torch.tensor(places, dtype=torch.int64, device=device)

    def _chosen(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *others = inputs
        rows = hidden.reshape(1, -1, hidden.shape[-1])
        return (rows if self._index is None else rows[:, self._index], *others)
