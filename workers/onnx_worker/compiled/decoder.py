"""Runs of a model by the compiled functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.onnx_worker.compiled.object_file import load
from workers.onnx_worker.compiled.shapes import (
    DOT_COLUMNS,
    DOT_ROWS,
    LANES,
    PHASES_A_LAYER,
    SEGMENT,
    STRIP,
    TOGETHER,
    WIDTH,
    Rows,
    Scratch,
    Sizes,
    layer_matrices,
    phases,
)
from workers.onnx_worker.compiled.team import Room, Team
from workers.onnx_worker.compiled.tensors import Tensors, sizes_of
from workers.onnx_worker.compiled.weights import constants_of, load_weights
from workers.runtime.engine.speculation import LENGTHS
from workers.runtime.kv_cache import KVCache

_FEW: Final = 1 + max(LENGTHS)
"""Tokens of a span up to which each attends by itself, a token and its drafts: if they come at once or one
by one makes no difference then."""
_QUERIES: Final = 48
"""Queries that attend together at most: their weights over a strip take 24 KB, a part of the caches."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens that a slot takes in."""

    slot: int
    start: int
    """Tokens that it holds already."""
    tokens: Sequence[int] | NDArray[np.int64]
    """Negative ones name rows of features, -1 the first."""


class CompiledDecoder:
    """A model of integer rows.

    Args:
        folder: Its prepared artefact.
        code: The functions, as :func:`workers.onnx_worker.compiled.machine_code.ensure` has them.
        cache: Where keys and values are kept.
        slots: Of it.
        threads: Threads that compute.

    Raises:
        OSError: A file can't be read.
        ValueError: There is something else in ``code``.
    """

    def __init__(self, folder: Path, code: Path, cache: KVCache, *, slots: int, threads: int) -> None:
        entry = load(code)
        tensors = Tensors(folder)
        self._sizes = sizes_of(tensors)
        self._weights = load_weights(tensors, self._sizes, cache, slots)
        self._cache = cache  # whose addresses the weights have
        self._threads = threads
        self._team = Team(entry, threads, self._sizes, constants_of(tensors), self._weights)
        self._no_features = np.empty((0, self._sizes.hidden), np.float32)
        self.trim()

    def trim(self) -> None:
        """Gives back working memory."""
        self._whole, self._staged = _Rooms(self._sizes, self._threads), _Rooms(self._sizes, self._threads)
        self._team.forget()

    def close(self) -> None:
        """Ends its threads."""
        self._team.close()

    @property
    def logits_width(self) -> int:
        """How wide logits are: the vocabulary, rounded up."""
        return self._sizes.vocabulary

    def run(
        self,
        spans: Sequence[Span],
        wanted: Sequence[int],
        logits: NDArray[np.float32],
        features: NDArray[np.float32] | None = None,
    ) -> None:
        """Takes tokens in.

        Args:
            spans: The tokens.
            wanted: Which of them, counted over all spans, logits are wanted for.
            logits: Filled, float32 ``[wanted, logits_width]``.
            features: float32 ``[features, hidden]``.
        """
        rows = self._rows(spans, wanted, logits, features)
        self._team.run(0, phases(self._sizes.layers), rows, self._whole.room(rows))

    def begin(
        self,
        span: Span,
        wanted: Sequence[int],
        logits: NDArray[np.float32],
        features: NDArray[np.float32] | None = None,
    ) -> CompiledRun:
        """A run that goes through some layers at a time; arguments as those of :meth:`run`.

        There is one at a time: where it has been, the next one will be.
        """
        rows = self._rows([span], wanted, logits, features)
        return CompiledRun(self, rows, self._staged.room(rows))

    def advance(self, run: CompiledRun, layer: int) -> None:
        """Goes on with a run as far as the input of a layer, or to its end with the number of all layers."""
        end = phases(self._sizes.layers) if layer == self._sizes.layers else 1 + PHASES_A_LAYER * layer
        self._team.run(run.phase, end, run.rows, run.room)
        run.phase = end

    def _rows(
        self,
        spans: Sequence[Span],
        wanted: Sequence[int],
        logits: NDArray[np.float32],
        features: NDArray[np.float32] | None,
    ) -> Rows:
        positions = np.concatenate([np.arange(span.start, span.start + len(span.tokens)) for span in spans])
        counts, pieces = np.ones(len(positions), np.int64), []
        together = max(_QUERIES // (self._sizes.heads // self._sizes.kv_heads), 1)
        row = 0
        for span in spans:
            end = row + len(span.tokens)
            if end - row > _FEW:
                pieces += [
                    (first, min(together, end - first), TOGETHER) for first in range(row, end, together)
                ]
            else:
                counts[row:end] = positions[row:end] // SEGMENT + 1
                pieces += [(each, 1, segment) for each in range(row, end) for segment in range(counts[each])]
            row = end
        tokens = np.concatenate([np.asarray(span.tokens, np.int64) for span in spans])
        features = self._no_features if features is None else features
        if tokens.max() >= len(self._weights.embedding) or -1 - tokens.min() >= len(features):
            raise IndexError("a token is none of the model's")
        if positions.max() >= self._cache.length:
            raise IndexError("a slot has no room for so many tokens")
        return Rows(
            tokens=tokens,
            slots=np.repeat([span.slot for span in spans], [len(span.tokens) for span in spans]).astype(
                np.int64
            ),
            positions=positions.astype(np.int64),
            pieces=np.array(pieces, np.int64),
            parts=np.concatenate([[0], np.cumsum(counts)]),
            features=features,
            wanted=np.asarray(wanted, np.int64),
            logits=logits,
        )


class _Rooms:
    """Working memory of runs that come one after the other, kept for those to come."""

    def __init__(self, sizes: Sizes, threads: int) -> None:
        self._sizes = sizes
        self._threads = threads
        self._kept: Room | None = None

    def room(self, rows: Rows) -> Room:
        """For so many rows and parts, at least."""
        count, parts = len(rows.tokens), int(rows.parts[-1])
        if self._kept is not None:
            has_count, has_parts = len(self._kept.scratch.residual), len(self._kept.scratch.attended)
            if count <= has_count and parts <= has_parts:
                return self._kept
            count, parts = max(count, has_count), max(parts, has_parts)
        self._kept = Room(scratch(self._sizes, count, parts, self._threads))
        return self._kept


class CompiledRun:
    """A run on its way through the layers; made by :meth:`CompiledDecoder.begin`."""

    def __init__(self, decoder: CompiledDecoder, rows: Rows, room: Room) -> None:
        self.rows = rows
        self.room = room
        self.phase = 0
        """The next one."""
        self._decoder = decoder

    def advance(self, layer: int) -> NDArray[np.float32]:
        """Goes on as far as the input of a layer, or to the end with the number of all layers.

        Returns:
            The logits given, filled at the end.
        """
        self._decoder.advance(self, layer)
        return self.rows.logits


def scratch(sizes: Sizes, rows: int, parts: int, threads: int) -> Scratch:
    """Working memory for so many rows, parts of their attention, and threads."""
    (qkv, _), *_ = matrices = layer_matrices(sizes)
    queries = max(_QUERIES, sizes.heads // sizes.kv_heads)

    def floats(*shape: int) -> NDArray[np.float32]:
        return np.empty(shape, np.float32)

    return Scratch(
        residual=floats(rows, sizes.hidden),
        rounded=np.empty((rows, max(inputs for _, inputs in matrices)), np.uint8),
        factors=floats(rows),
        qkv=floats(rows, qkv),
        attended=floats(parts, sizes.heads, sizes.head_dim),
        peaks=floats(parts, sizes.heads),
        sums=floats(parts, sizes.heads),
        gated=floats(rows, sizes.feed_forward),
        both=floats(threads, rows, WIDTH),
        parts=floats(threads, rows, sizes.mixed),
        scores=floats(threads, DOT_ROWS, SEGMENT + DOT_COLUMNS),
        queries=floats(threads, queries, sizes.head_dim),
        turned=floats(threads, sizes.head_dim, STRIP + LANES),
        weights=floats(threads, queries, STRIP),
        parts_attended=floats(threads, queries, sizes.head_dim),
        parts_weighed=floats(threads, 2, queries),
    )
