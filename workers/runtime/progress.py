"""What long work reports while it goes on; printed by the CLI and streamed by LoadModel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Phase(Enum):
    """The steps that stand between a model's name and its first token, in their order."""

    DOWNLOAD = "download"
    VERIFY = "verify"
    CONVERT = "convert"
    LOAD = "load"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one phase has come."""

    phase: Phase
    done: int
    """Units finished: bytes in DOWNLOAD, VERIFY and LOAD, tensors in CONVERT, steps elsewhere."""
    total: int | None = None
    """Units in all; ``None`` when it isn't known."""
    detail: str = ""
    """What is being worked on, for a person: a file or tensor name."""
    eta: float | None = None
    """Seconds that the phase will still take; ``None`` when nobody knows (:mod:`workers.runtime.pace`)."""


Report = Callable[[Progress], None]
"""Called with every step of progress; must be cheap and must not raise."""


def silent(_: Progress) -> None:
    """A :data:`Report` for callers that don't want to know."""
