"""Positions in several dimensions (M-RoPE): three a token, of time, height and width.

Those of a text's token are all the same, one more than the largest before. Rows of a picture's features count
from where it begins in height and width, while time stands still.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from workers.torch_worker.span import Span

Places = Callable[[int], tuple[int, int]]
"""Of a negative token id: which row and column of its picture it names."""


class RotaryPositions:
    """The positions of all that slots hold. Memory is taken as far as they do.

    Args:
        slots: How many.
        max_length: Tokens that a slot holds at most.
        places: Where in a picture a row of features is.
        device: Where the model computes.
    """

    def __init__(self, slots: int, max_length: int, places: Places, device: torch.device) -> None:
        self._held = np.zeros((slots, 3, max_length), np.int32)
        self._at = list(range(slots))  # slot -> its row in what is held
        self._places = places
        self._device = device

    def take(self, spans: Sequence[Span], width: int) -> torch.Tensor:
        """Takes tokens into slots.

        Returns:
            int64 ``[3, spans, width]``, zeros behind what is shorter.
        """
        taken = np.zeros((3, len(spans), width), np.int64)
        for row, span in enumerate(spans):
            taken[:, row, : len(span.tokens)] = self._taken(span)
        return torch.from_numpy(taken).to(self._device)

    def swap(self, a: int, b: int) -> None:
        """Exchanges what two slots hold."""
        self._at[a], self._at[b] = self._at[b], self._at[a]

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copies those of tokens ``start … end-1`` of a slot to another."""
        self._held[self._at[target], :, start:end] = self._held[self._at[source], :, start:end]

    def _taken(self, span: Span) -> NDArray[np.int32]:
        held = self._held[self._at[span.slot]]
        following = int(held[:, span.start - 1].max()) + 1 if span.start else 0
        begin = int(held[0, span.start - 1]) if span.start else 0  # of a picture, if one is divided here
        for place, token in enumerate(span.tokens, start=span.start):
            if token >= 0:
                held[:, place] = following
                following += 1
                continue
            row, column = self._places(token)
            if row == column == 0:
                begin = following
            held[:, place] = begin, begin + row, begin + column
            following = max(begin + row, begin + column) + 1
        return held[:, span.start : span.end]
