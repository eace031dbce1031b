"""What computes: a device that works, or a clear word on why one doesn't."""

from __future__ import annotations

import re
import sys
from typing import Final

import torch

from diplex.errors import InvalidRequest, UnsupportedFeature
from workers.torch_worker.device_names import DEVICE

CPU: Final = torch.device("cpu")


def choose(name: str) -> torch.device:
    """The device of that name; for ``auto`` the first CUDA device that works, else the CPU.

    Raises:
        InvalidRequest: There is no such device here.
        UnsupportedFeature: CUDA is there but can't be used; says why and what to do.
    """
    if not re.fullmatch(DEVICE, name):
        raise InvalidRequest(f"--device {name}: must be auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return CPU
    if name == "auto":
        return _automatic()
    device = torch.device(name)
    if problem := cuda_problem(device.index or 0):
        raise UnsupportedFeature(f"--device {name}: {problem}; --device cpu works without")
    return torch.device("cuda", device.index or 0)


def _automatic() -> torch.device:
    problem = cuda_problem(0)
    if problem is None:
        return torch.device("cuda", 0)
    if torch.version.cuda is not None:
        # Somebody installed a build for CUDA, and should know why it isn't used.
        print(f"computing on the CPU: {problem}", file=sys.stderr)  # noqa: T201  # an engine's log
    return CPU


def cuda_problem(index: int) -> str | None:
    """Why a CUDA device can't be used, with what helps; ``None`` if it computes."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is a build without CUDA; install one for CUDA"
    if not torch.cuda.is_available():
        return (
            f"torch {torch.__version__} is built for CUDA {torch.version.cuda} but finds no usable device: "
            "look at nvidia-smi for the driver's version, and at CUDA_VISIBLE_DEVICES"
        )
    count = torch.cuda.device_count()
    if index >= count:
        return f"there are {count} CUDA devices, numbered from 0"
    try:
        probe = torch.ones(8, 8, device=f"cuda:{index}")
        right = float((probe @ probe).sum().item()) == 8.0**3
    except RuntimeError as error:
        major, minor = torch.cuda.get_device_capability(index)
        return (
            f"CUDA device {index} (compute capability {major}.{minor}) fails at a first product: "
            f"{str(error).splitlines()[0]}; this torch is built for {', '.join(torch.cuda.get_arch_list())}"
        )
    return None if right else f"CUDA device {index} computes wrong results"
