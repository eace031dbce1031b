"""Products of 8-bit integers: weights with a scale a row, activations as two integers with a scale a token.

One integer a value is too coarse for tokens some of whose values are very large. Two of them, the second for
what the first leaves, are as good as floats, and hardly slower: what takes time is to read the weights, which
is done once for both. See docs/decisions/0026-two-integers.md.

The sums are exact, so a token's result doesn't depend on what else is in the batch. ``torch._int_mm`` takes
the weights as they lie in a mapped file, row by row, and needs no copy laid out for the processor.
"""

from __future__ import annotations

import torch
from torch import nn

_LARGEST = 127
_FINER = 254
"""Steps of the second integer in one of the first, which leaves half a step to either side."""
_TINY = 1e-12
"""A scale for tokens that are all zeros."""
_MIXED_BLOCK = 32
"""Both sides of a matrix must be multiples of it for torch's mixed product, wrong or crashing on others
(seen with 294 rows and with 40 columns, torch 2.13)."""
_CACHED = 2**21
"""Bytes of weights that are read through before torch's mixed product reads them. It walks along 32 rows at a
time, which processors don't foresee; what lies in their caches takes it a third of the time."""
_WORD = 8
"""Bytes that are read at a time then."""
_BLOCK = 1024
"""Rows that are quantised at a time."""


def quantise_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix as int8 with a scale a row.

    Args:
        weight: ``[rows, columns]``, any float type.

    Returns:
        int8 ``[rows, columns]`` and float32 ``[rows]``.
    """
    integers = torch.empty(weight.shape, dtype=torch.int8)
    scale = torch.empty(len(weight), dtype=torch.float32)
    for start in range(0, len(weight), _BLOCK):
        rows = weight[start : start + _BLOCK].float()
        scales = _peaks(rows).clamp_min_(_TINY).div_(_LARGEST)
        scale[start : start + _BLOCK] = scales[:, 0]
        integers[start : start + _BLOCK] = torch.div(rows, scales).round_()
    return integers, scale


def _peaks(rows: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each row, ``[rows, 1]``; several times as fast as torch's norm for that."""
    return rows.abs().amax(dim=-1, keepdim=True)


class Int8Matrix(nn.Module):
    """``y = x W^T`` over int8 rows.

    Args:
        weight: int8 ``[outputs, inputs]``.
        scale: float32 ``[outputs]``.
        bias: float32 ``[outputs]``, if there is one.
        fine: Whether inputs are held as two integers a value; eyes see well enough with one, and are bound by
            their products rather than by reading the weights.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None = None,
        *,
        fine: bool = True,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self._fine = fine
        self._finer_scale = scale / _FINER
        aligned = weight.storage_offset() % _WORD == 0  # of a file's tensors, not all need be
        self._mixed = aligned and all(side % _MIXED_BLOCK == 0 for side in weight.shape)
        self._parts = _parts(weight) if self._mixed else []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Float32 ``[…, inputs]`` to ``[…, outputs]``."""
        rows = inputs.reshape(-1, inputs.shape[-1])
        outputs = self._alone(rows) if self._mixed and len(rows) == 1 else self._together(rows)
        if self.bias is not None:
            outputs.add_(self.bias)
        return outputs.view(*inputs.shape[:-1], len(self.weight))

    def _alone(self, row: torch.Tensor) -> torch.Tensor:
        """One token, for which torch's one mixed product is faster than all those operations."""
        row = row.bfloat16()
        sums = []
        for weight, words, ones in self._parts:
            words.sum()
            sums.append(torch._weight_int8pack_mm(row, weight, ones))  # noqa: SLF001  # its only name
        whole = sums[0] if len(sums) == 1 else torch.cat(sums, dim=1)
        return whole.float().mul_(self.weight_scale)

    def _together(self, rows: torch.Tensor) -> torch.Tensor:
        scale = _peaks(rows).clamp_min_(_TINY).div_(_LARGEST)
        values = torch.div(rows, scale)
        return (self._two(values) if self._fine else self._one(values)).mul_(scale)

    def _one(self, values: torch.Tensor) -> torch.Tensor:
        sums = torch._int_mm(values.round_().to(torch.int8), self.weight.t())  # noqa: SLF001  # likewise
        return sums.float().mul_(self.weight_scale)

    def _two(self, values: torch.Tensor) -> torch.Tensor:
        coarse = values.round()
        integers = torch.empty((2, *values.shape), dtype=torch.int8)
        integers[0] = coarse
        integers[1] = values.sub_(coarse).mul_(_FINER)
        rows = integers.view(-1, values.shape[1])
        products = torch._int_mm(rows, self.weight.t())  # noqa: SLF001  # likewise
        sums = products.float().view(2, len(values), len(self.weight))
        return torch.add(sums[1], sums[0], alpha=_FINER).mul_(self._finer_scale)


def _parts(weight: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Blocks of a matrix that fit the caches: each as it is, as words of 8 bytes, and scales of one."""
    rows = max(_CACHED // weight.shape[1] // _MIXED_BLOCK, 1) * _MIXED_BLOCK
    parts = [weight[start : start + rows] for start in range(0, len(weight), rows)]
    return [
        (part, part.flatten().view(torch.int64), torch.ones(len(part), dtype=torch.bfloat16))
        for part in parts
    ]


class Int8Rows(nn.Module):
    """An embedding that gathers int8 rows.

    Args:
        weight: int8 ``[rows, width]``.
        scale: float32 ``[rows]``.
        factor: What every row is multiplied by, as some families have it.
        dtype: What it gives.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        scale: torch.Tensor,
        factor: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self._factor = factor
        self._dtype = dtype

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 ``[…]`` to ``[…, width]``."""
        scale = self.weight_scale[ids]
        if self._factor != 1:
            scale = scale * self._factor
        return self.weight[ids].float().mul_(scale[..., None]).to(self._dtype)


class Siblings:
    """Matrices that read the same input, kept as one: computed for the first that is asked.

    Args:
        matrix: All of them, one below the other.
        sizes: Outputs of each.
    """

    def __init__(self, matrix: nn.Module, sizes: tuple[int, ...]) -> None:
        self.matrix = matrix
        self.sizes = sizes
        self._inputs: torch.Tensor | None = None
        self._parts: dict[int, torch.Tensor] = {}

    def part(self, index: int, inputs: torch.Tensor) -> torch.Tensor:
        """The outputs of one of them."""
        if inputs is not self._inputs or index not in self._parts:
            self._inputs = inputs
            self._parts = dict(enumerate(self.matrix(inputs).split(self.sizes, dim=-1)))
        part = self._parts.pop(index)
        if not self._parts:
            self._inputs = None
        return part


class Sibling(nn.Module):
    """One matrix of several; stands where the model has its linear layer."""

    def __init__(self, siblings: Siblings, index: int) -> None:
        super().__init__()
        self.siblings = siblings
        """All that read the same."""
        self._index = index

    @property
    def outputs(self) -> int:
        """How many it has."""
        return self.siblings.sizes[self._index]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Float32 ``[…, inputs]`` to ``[…, outputs]``."""
        return self.siblings.part(self._index, inputs)
