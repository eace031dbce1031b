"""The names of devices, for those who mustn't import torch."""

from __future__ import annotations

import re
from typing import Final

from diplex.errors import InvalidRequest

DEVICE: Final = r"auto|cpu|cuda(:\d{1,3})?"


def check_device(name: str) -> None:
    """Refuses what is no name of a device; whether there is such a one, an engine finds out.

    Raises:
        InvalidRequest: It isn't one.
    """
    if not re.fullmatch(DEVICE, name):
        raise InvalidRequest(f"--device {name}: must be auto, cpu, cuda or cuda:N")
