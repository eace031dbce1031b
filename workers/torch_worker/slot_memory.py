"""Where keys and values of all slots lie: mapped memory of the CPU, or tensors on a device that grow."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import torch

from workers.runtime.artefact import ModelDescription
from workers.runtime.kv_cache import KVCache
from workers.torch_worker.shape import Shape

_GROWTH: Final = 256
"""Tokens by which tensors of a device grow at least."""


class SlotMemory(Protocol):
    """Tensors ``[slots, kv_heads, length, head_dim]``, two a layer, and what a plan does to them."""

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a layer."""

    def reserve(self, slot: int, tokens: int) -> None:
        """Makes room for a slot's first ``tokens`` tokens."""

    def swap(self, a: int, b: int) -> None:
        """Exchanges what two slots hold."""

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copies tokens ``start … end-1`` of a slot to the same place in another."""

    def release(self, slot: int, keep: int) -> None:
        """Nothing behind a slot's first ``keep`` tokens is needed any longer."""


class MappedSlots:
    """Slots in mapped memory: each takes the pages that its tokens touch.

    Args:
        description: The model.
        slots: How many.
        max_length: Tokens that a slot must hold.
        dtype: Of keys and values.
    """

    def __init__(
        self, description: ModelDescription, *, slots: int, max_length: int, dtype: torch.dtype
    ) -> None:
        element = np.dtype(np.float32) if dtype is torch.float32 else np.dtype(np.uint16)
        self._cache = KVCache(description, slots=slots, max_length=max_length, dtype=element)
        self.reserve = self._cache.reserve
        self.swap = self._cache.swap
        self.copy = self._cache.copy
        self.release = self._cache.release
        arrays = {name: torch.from_numpy(rows) for name, rows in self._cache.rows(0, slots).items()}
        self._layers = [
            (arrays[f"{layer}.key"].view(dtype), arrays[f"{layer}.value"].view(dtype))
            for layer in range(description.layers)
        ]

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`SlotMemory`."""
        return self._layers[index]


class DeviceSlots:
    """Slots in a device's memory, all as long as the longest has ever had to be.

    Args:
        shape: Of a layer, and how many there are.
        slots: How many.
        max_length: Tokens that a slot holds at most.
        dtype: Of keys and values.
        device: Where.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        slots: int,
        max_length: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._max_length = max_length
        self._length = 0
        empty = (slots, shape.kv_heads, 0, shape.head_dim)
        self._layers = [
            (torch.empty(empty, dtype=dtype, device=device), torch.empty(empty, dtype=dtype, device=device))
            for _ in range(shape.layers)
        ]

    def layer(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """See :class:`SlotMemory`."""
        return self._layers[index]

    def reserve(self, slot: int, tokens: int) -> None:  # noqa: ARG002  # all slots are of one length
        """See :class:`SlotMemory`; one layer after the other grows, so the peak is a layer more."""
        if tokens <= self._length:
            return
        length = min(max(tokens, self._length + max(_GROWTH, self._length // 2)), self._max_length)
        for index, (keys, values) in enumerate(self._layers):
            self._layers[index] = (self._grown(keys, length), self._grown(values, length))
        self._length = length

    def swap(self, a: int, b: int) -> None:
        """See :class:`SlotMemory`."""
        for tensor in self._tensors():
            tensor[[a, b]] = tensor[[b, a]]

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """See :class:`SlotMemory`."""
        for tensor in self._tensors():
            tensor[target, :, start:end] = tensor[source, :, start:end]

    def release(self, slot: int, keep: int) -> None:
        """See :class:`SlotMemory`; other slots need the length, so it stays."""

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self._layers for tensor in pair]

    def _grown(self, tensor: torch.Tensor, length: int) -> torch.Tensor:
        slots, heads, _, width = tensor.shape
        grown = tensor.new_empty((slots, heads, length, width))
        grown[:, :, : self._length] = tensor
        return grown
