"""How weights are held, and what is computed with: by profile and device."""

from __future__ import annotations

from typing import Final

import torch

from diplex.errors import UnsupportedFeature

PROFILES: Final = ("fp32", "bf16", "fp16", "int8", "int4")
_FLOATS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def stored_dtype(profile: str) -> torch.dtype:
    """The type in which a profile keeps what it doesn't quantise."""
    return _FLOATS.get(profile, torch.float32 if profile == "int8" else torch.bfloat16)


def activation_dtype(profile: str, device: torch.device) -> torch.dtype:
    """What a model computes with.

    Raises:
        UnsupportedFeature: The device can't compute the profile.
    """
    if profile in _FLOATS:
        return _FLOATS[profile]
    if profile == "int4" and device.type == "cpu":
        raise UnsupportedFeature.of_field(
            "precision",
            "int4 needs CUDA: on a CPU, torch has no product with 4-bit weights that beats int8; use int8",
        )
    return torch.float32 if device.type == "cpu" else torch.bfloat16
