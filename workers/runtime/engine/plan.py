"""What a scheduler tells a backend to do in one step. Plain data: no tensors, no clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Swap:
    """Exchange what two slots hold."""

    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the keys and values of tokens ``start … end-1`` to the same place in another slot."""

    source: int
    target: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing behind ``keep`` tokens of a slot is needed any longer: give its memory back."""

    slot: int
    keep: int


Change = Swap | Copy | Release


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prefill a piece of a sequence."""

    sequence: int
    slot: int
    start: int
    """Tokens of the sequence that the slot holds already."""
    tokens: tuple[int, ...]
    last: bool
    """Whether the sequence ends here for now, so that logits are wanted."""

    @property
    def end(self) -> int:
        """Tokens that the slot holds afterwards."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class StagedChunk:
    """Prefill a piece of a sequence: some stages of the model now, the others in later steps.

    Until it is complete, the next steps go on with it, or none does any more since its sequence is gone.
    """

    chunk: Chunk
    first: int
    """The stage to begin with; 0 for a new piece."""
    count: int
    """Stages to compute."""
    of: int
    """All stages."""

    @property
    def complete(self) -> bool:
        """Whether the piece is computed with this."""
        return self.first + self.count == self.of


@dataclass(frozen=True, slots=True)
class Row:
    """Decode one sequence: row ``i`` of a step is slot ``i``."""

    sequence: int
    past: int
    """Tokens of the sequence that the slot holds already."""
    token: int
    """The one to take in."""
    drafts: tuple[int, ...] = ()
    """Guesses of the tokens behind it, to be taken in too; only when the step has no chunks."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Encode one tile of a picture."""

    sequence: int
    """The one that it is encoded for; others may show the same picture."""
    picture: int
    """The picture's number."""
    index: int
    """Which of its tiles."""
    ids: range
    """Of the rows of features that it comes to: negative token ids."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: changes in their order, then chunks, then one decode run over rows ``0 … len(rows)-1``.

    A tile to encode comes before all that. The token ids of chunks that show a picture are negative there:
    they name rows of features, which have been encoded in earlier steps.

    Several chunks are in slots one behind the other, the shorter ones first, so that a backend can compute
    those of about the same length in one padded run.

    Logits are wanted for the chunks with ``last``, in their order, the complete staged one among them as the
    last of all, then for the rows in theirs, behind every token that the row takes in.
    """

    changes: tuple[Change, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    rows: tuple[Row, ...] = ()
    staged: StagedChunk | None = None
    encode: Tile | None = None

    @property
    def sequences(self) -> Iterator[int]:
        """All that are worked on."""
        if self.encode:
            yield self.encode.sequence
        yield from (chunk.sequence for chunk in self.chunks)
        if self.staged:
            yield self.staged.chunk.sequence
        yield from (row.sequence for row in self.rows)

    @property
    def prompt_tokens(self) -> float:
        """Prompt tokens computed; of a staged piece, its part of the stages."""
        staged = self.staged
        part = len(staged.chunk.tokens) * staged.count / staged.of if staged else 0
        return sum(len(chunk.tokens) for chunk in self.chunks) + part

    @property
    def complete(self) -> tuple[Chunk, ...]:
        """The chunks that are computed when the step is done."""
        return (*self.chunks, self.staged.chunk) if self.staged and self.staged.complete else self.chunks

    @property
    def sampled(self) -> tuple[int, ...]:
        """The sequence of every row of logits, in the order of the logits."""
        return (
            *(chunk.sequence for chunk in self.complete if chunk.last),
            *(row.sequence for row in self.rows for _ in range(1 + len(row.drafts))),
        )

    def __bool__(self) -> bool:
        return bool(self.changes or self.chunks or self.rows or self.staged or self.encode)
