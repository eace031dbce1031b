"""The seam between the steps of a backend and how an architecture computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from workers.runtime.engine.changes import Slots
from workers.torch_worker.span import Span


class Runner(Slots, Protocol):
    """Holds a model and the keys and values of its slots."""

    def run(self, spans: Sequence[Span]) -> torch.Tensor:
        """Takes tokens into slots.

        Args:
            spans: Of neighbouring slots, one after the other. All begin their slots, or there is but one,
                or each has one token.

        Returns:
            Logits ``[wanted, vocabulary]``, behind the wanted tokens of the first span, then of the next.
        """

    def reserve(self, slot: int, tokens: int) -> None:
        """Makes room for a slot's first ``tokens`` tokens."""
