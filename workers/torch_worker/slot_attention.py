"""Attention over slots: rows of different lengths in one call, each seeing its own tokens only.

Registered with transformers under a name of its own, each stands in the place of the library's attention.
Since no function that makes masks has that name, models leave the mask to it.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from diplex.errors import UnsupportedModel
from workers.torch_worker.slot_cache import SlotCache

_NUMBERS: Final = itertools.count()
_UNKNOWN: Final = frozenset({"s_aux", "position_bias", "head_mask"})
"""Arguments that change what attention computes, and that this one doesn't know."""


class SlotAttention:
    """See the module.

    Args:
        cache: Knows which slots a run works on.
    """

    def __init__(self, cache: SlotCache) -> None:
        self._cache = cache
        self.plain = True
        """Whether the latest call was for all that a slot holds, and for its products as they are."""

    def register(self) -> str:
        """Makes it known to transformers; returns the name that models are to be built with."""
        name = f"diplex_slots_{next(_NUMBERS)}"
        AttentionInterface.register(name, self)
        return name

    def __call__(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        *,
        scaling: float | None = None,
        sliding_window: int | None = None,
        softcap: float | None = None,
        **others: Any,
    ) -> tuple[torch.Tensor, None]:
        """Attention of new tokens to all that their slots hold.

        Args:
            module: The layer.
            query: ``[rows, heads, width, head_dim]``.
            key: ``[rows, kv_heads, end, head_dim]``, as the cache gave it.
            value: Likewise.
            attention_mask: None is ever made.
            scaling: Factor of the products; ``1/sqrt(head_dim)`` if there is none.
            sliding_window: Tokens that one sees at most, itself included.
            softcap: Bound of the products, by a hyperbolic tangent.
            others: What other implementations need.

        Returns:
            ``[rows, width, heads, head_dim]``, and no weights.

        Raises:
            UnsupportedModel: The layer asks for something else than this.
        """
        step = self._cache.step
        self.plain = sliding_window is None and softcap is None
        strange = sorted(name for name in _UNKNOWN if others.get(name) is not None)
        if step is None or attention_mask is not None or strange:
            raise UnsupportedModel(
                f"{type(module).__name__} can't attend in slots: {strange or 'it has a mask'}"
            )
        rows, heads, width, size = query.shape
        group = heads // key.shape[1]
        if width == 1:
            # All heads of a group see the same keys: they stand where several tokens would.
            query = query.reshape(rows, heads // group, group, size)
        elif group > 1:
            key, value = _repeated(key, group), _repeated(value, group)
        causal = step.causal and width > 1 and softcap is None and (sliding_window or width) >= width
        mask = None if causal else step.mask(sliding_window)
        if softcap is None:
            out = scaled_dot_product_attention(
                query, key, value, attn_mask=mask, is_causal=causal, scale=scaling
            )
        else:
            out = _capped(query * (size**-0.5 if scaling is None else scaling), key, value, mask, softcap)
        return out.reshape(rows, heads, width, -1).transpose(1, 2), None


def _repeated(tensor: torch.Tensor, times: int) -> torch.Tensor:
    rows, heads, length, size = tensor.shape
    wide = tensor[:, :, None].expand(rows, heads, times, length, size)
    return wide.reshape(rows, heads * times, length, size)


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    softcap: float,
) -> torch.Tensor:
    scores = torch.matmul(query, key.transpose(2, 3)).div_(softcap).tanh_().mul_(softcap)
    if mask is not None:
        scores.masked_fill_(~mask, float("-inf"))
    return torch.matmul(torch.softmax(scores, dim=-1, dtype=torch.float32).to(value.dtype), value)
