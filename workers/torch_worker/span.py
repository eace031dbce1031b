"""What a run computes of one slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens that go into a slot behind those that it holds."""

    slot: int
    start: int
    """Tokens that the slot holds already."""
    tokens: Sequence[int]
    wanted: int
    """Logits wanted behind so many of its last tokens."""

    @property
    def end(self) -> int:
        """Tokens that the slot holds afterwards."""
        return self.start + len(self.tokens)
