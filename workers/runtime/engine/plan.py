"""What a scheduler tells a backend to do in one step. Plain data: no tensors, no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Move:
    """Copy a sequence's keys and values to another slot, before anything else in the step."""

    source: int
    target: int
    length: int
    """Tokens to copy."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prefill a piece of a prompt."""

    sequence: int
    slot: int
    start: int
    """Tokens of the sequence that the slot holds already."""
    tokens: tuple[int, ...]
    last: bool
    """Whether the prompt ends here, so that logits are wanted."""


@dataclass(frozen=True, slots=True)
class Row:
    """Decode one token of one sequence."""

    sequence: int
    slot: int
    past: int
    """Tokens of the sequence that the slot holds already."""
    token: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: moves, then prefill, then one decode run over all rows.

    Logits are wanted for the chunks with ``last``, in their order, then for the rows in theirs.
    """

    moves: tuple[Move, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    rows: tuple[Row, ...] = ()
    idle: tuple[tuple[int, int], ...] = ()
    """``(slot, past)`` of slots below the highest decoding one that are not decoded in this step.

    A batched run passes over them: what it writes there, behind ``past`` tokens, must be harmless.
    """

    @property
    def sampled(self) -> tuple[int, ...]:
        """The sequences that get a token in this step, in the order of the logits."""
        return (
            *(chunk.sequence for chunk in self.chunks if chunk.last),
            *(row.sequence for row in self.rows),
        )

    def __bool__(self) -> bool:
        return bool(self.chunks or self.rows)
