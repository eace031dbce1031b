"""Which chunks a backend computes in one padded run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from workers.runtime.engine.plan import Chunk

_MOST_PADDED: Final = 1.25
"""Places of a padded run for each token in it, at most: a token takes less time in a larger run, but padding
takes more than a run of its own for what is much shorter or longer."""


def padded_runs(chunks: Iterable[Chunk], *, beginnings: bool = False) -> Iterator[list[Chunk]]:
    """Chunks that are computed together: those of about the same length, side by side.

    Args:
        chunks: Of one step.
        beginnings: Only those that begin prompts; behind tokens that a slot holds, a chunk is computed alone.
    """
    run: list[Chunk] = []
    for chunk in chunks:
        apart = beginnings and any(each.start for each in (chunk, *run[:1]))
        if run and (apart or not _joins(chunk, run)):
            yield run
            run = []
        run.append(chunk)
    if run:
        yield run


def _joins(chunk: Chunk, run: list[Chunk]) -> bool:
    if chunk.slot != run[-1].slot + 1:
        return False
    sizes = [len(each.tokens) for each in (*run, chunk)]
    return len(sizes) * max(sizes) <= _MOST_PADDED * sum(sizes)
