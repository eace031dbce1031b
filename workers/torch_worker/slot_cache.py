"""Keys and values of all slots as a cache that transformers' models write to and read from, in place.

One tensor ``[slots, kv_heads, length, head_dim]`` a layer and kind. A run works on some slots side by side;
each row of its batch is appended behind what its slot holds, and what comes back are views.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import Cache

from workers.torch_worker.slot_memory import SlotMemory
from workers.torch_worker.span import Span


class Step:
    """The rows of one run: slots ``first … first+rows-1``, padded on the right to the widest.

    Args:
        spans: One a row, in neighbouring slots.
        device: Where indices and masks go.
        mutual: Whether tokens that name rows of a picture attend to all others of these beside them.
    """

    def __init__(self, spans: Sequence[Span], device: torch.device, *, mutual: bool = False) -> None:
        self.first = spans[0].slot
        self.rows = len(spans)
        self.width = max(len(span.tokens) for span in spans)
        self.starts = [span.start for span in spans]
        self.aligned = len(set(self.starts)) == 1
        """Whether all rows begin at the same place."""
        self.end = max(self.starts) + self.width
        """Tokens that the longest row holds afterwards, padding included."""
        self._device = device
        self._masks: dict[int | None, torch.Tensor | None] = {}  # window -> mask
        starts = torch.tensor(self.starts, device=device)
        self.positions = starts[:, None] + torch.arange(self.width, device=device)
        """int64 ``[rows, width]``: the place of every token in its slot."""
        self._reach = _reach(spans, self.positions) if mutual else self.positions
        """int64 ``[rows, width]``: the last place that every token may look at."""
        self.places = (torch.arange(self.rows, device=device), starts) if self.width == 1 else None
        """Row and place of every token, if there is one a row."""

    @property
    def causal(self) -> bool:
        """Whether each token may look at those before it, all of them of this run."""
        return self.end == self.width and self._reach is self.positions

    def mask(self, window: int | None) -> torch.Tensor | None:
        """What each token may look at: bool ``[rows, 1, width, end]``; ``None`` if that is all.

        Args:
            window: Tokens that it sees at most, itself included; ``None`` for no limit.
        """
        if window not in self._masks:
            self._masks[window] = self._made_mask(window)
        return self._masks[window]

    def _made_mask(self, window: int | None) -> torch.Tensor | None:
        if self.width == 1 and self.aligned and (window is None or self.end <= window):
            return None
        keys = torch.arange(self.end, device=self._device)
        seen = keys <= self._reach[:, None, :, None]
        if window is not None:
            seen &= keys > self.positions[:, None, :, None] - window
        return seen


def _reach(spans: Sequence[Span], positions: torch.Tensor) -> torch.Tensor:
    """The place of the last row of a picture for all of its rows, else a token's own."""
    if not any(token < 0 for span in spans for token in span.tokens):
        return positions
    reach = positions.tolist()
    for places, span in zip(reach, spans, strict=True):
        for index in range(len(span.tokens) - 2, -1, -1):
            if span.tokens[index] < 0 and span.tokens[index + 1] < 0:
                places[index] = places[index + 1]
    return torch.tensor(reach, device=positions.device)


class SlotCache(Cache):
    """What a model is given as its cache; ``step`` says which slots it stands for.

    Args:
        memory: Where the keys and values lie.
    """

    def __init__(self, memory: SlotMemory) -> None:
        super().__init__(layers=[])
        self._memory = memory
        self.step: Step | None = None
        self.updates = 0
        """Layers that have written since it was last set to 0."""

    def update(  # type: ignore[override, unused-ignore]  # what follows the layer's number differs by version
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Appends ``[rows, kv_heads, width, head_dim]`` to the slots; views of all that they hold."""
        step = self.step
        assert step is not None  # noqa: S101  # set before every run
        self.updates += 1
        keys, values = self._memory.layer(layer_idx)
        return _extended(keys, key_states, step), _extended(values, value_states, step)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002  # all layers hold the same
        """Tokens that come before those of the run, in the longest row."""
        return 0 if self.step is None else max(self.step.starts)


def _extended(held: torch.Tensor, new: torch.Tensor, step: Step) -> torch.Tensor:
    """Appends to the slots of a run; a view of all that they hold."""
    _, heads, _, size = held.shape
    strides, start = held.stride(), step.first * held.stride(0)
    # One view each: there are four of them in every layer, and a view costs as much as a small product.
    seen = held.as_strided((step.rows, heads, step.end, size), strides, start)
    if step.places is not None and not step.aligned:
        seen[step.places[0], :, step.places[1]] = new[:, :, 0]
    else:
        begin = start + step.starts[0] * strides[2]
        held.as_strided((step.rows, heads, step.width, size), strides, begin).copy_(new)
    return seen
