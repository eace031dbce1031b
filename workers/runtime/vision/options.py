"""How a request wants its pictures to be seen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """Choices between what is quick and what is fine."""

    split: bool = False
    """Whether the model also sees the tiles that a picture is cut into, beside the whole."""
    longest_edge: int | None = None
    """Pixels to which a picture's longer side is scaled first; ``None`` for what suits ``split``."""
