"""Quantised linear layers of CUDA devices, by torchao's tensors and kernels."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn

from diplex.errors import UnsupportedFeature


def require_torchao(profile: str) -> None:
    """Makes sure that torchao is there.

    Raises:
        UnsupportedFeature: It isn't; says what to install.
    """
    if find_spec("torchao") is None:
        raise UnsupportedFeature.of_field(
            "precision", f"{profile} on CUDA needs torchao: pip install 'diplex[torch-cuda]'"
        )


def int8_linear(
    weight: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> nn.Linear:
    """A layer over the rows of an artefact.

    Args:
        weight: int8 ``[outputs, inputs]``.
        scale: float32 ``[outputs]``.
        bias: float32 ``[outputs]``, if there is one.
        dtype: What it takes and gives.
        device: Where it computes.
    """
    from torchao.quantization import Int8Tensor  # noqa: PLC0415  # only where it is used

    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias=bias is not None, device="meta", dtype=dtype)
    rows = Int8Tensor(weight.to(device), scale[:, None].to(device, dtype), [1, inputs], dtype)
    layer.weight = nn.Parameter(rows, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(device, dtype), requires_grad=False)
    return layer


def quantise_int4(layer: nn.Linear) -> None:
    """Turns a layer that lies on a CUDA device into one with 4-bit weights, in groups of 128."""
    from torchao.quantization import Int4WeightOnlyConfig, quantize_  # noqa: PLC0415

    quantize_(layer, Int4WeightOnlyConfig(group_size=128))
