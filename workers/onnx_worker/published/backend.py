"""The backend for published graphs: what every graph can do, and no more than it can do exactly.

A slot's keys and values lie in the arrays of a :class:`~workers.runtime.kv_cache.KVCache`, as those of
the fast backend do, so that slots move, copy and go in the same way. For a run they are copied behind one
another, and what is new is copied back; as long as the same rows decode, one run's output is the next one's
past.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.onnx_worker.eyes import OnnxEyes
from workers.onnx_worker.published.batching import Batching, Probe, mask_of, new_places, with_new
from workers.onnx_worker.published.decoder import Batch, Decoder
from workers.onnx_worker.published.graphs import Graphs
from workers.onnx_worker.published.inputs import Embeddings, PlainIds, TokenInputs
from workers.onnx_worker.session import open_session
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.backend import StepResult
from workers.runtime.engine.changes import carry_out
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.kv_cache import KVCache

LOGIT_BYTES: Final = 64 * 2**20
"""Most bytes of logits in a run: most published decoders give those of every token."""
RUN_BYTES: Final = 128 * 2**20
"""Most bytes of keys and values in a run of several rows."""


class PublishedBackend:
    """Runs prepared published graphs (:mod:`workers.onnx_worker.published.prepare`) on the CPU."""

    def __init__(self, description: ModelDescription, config: EngineConfig) -> None:
        graphs = Graphs.load(config.folder)
        self._max_length = min(config.max_length or description.context_length, description.context_length)
        self._vocabulary = description.vocab_size
        self._token_bytes = description.kv_bytes_per_token
        self._decoder = Decoder(open_session(config.folder / graphs.decoder, threads=config.threads))
        self._eyes = _eyes(graphs, description, config)
        self._inputs = self._token_inputs(graphs, description, config)
        self._cache = KVCache(
            description, slots=config.rows, max_length=self._max_length, dtype=self._decoder.cache.dtype
        )
        self._carried: _Carried | None = None
        self.batching: Final = Probe(self._decoder, self._inputs, self._empty, self._vocabulary).batching()
        """What may share a run, as was found out."""

    @property
    def max_length(self) -> int:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._max_length

    @property
    def stages(self) -> int:
        """One: the graph can't be cut."""
        return 1

    @property
    def most_guessing(self) -> int:
        """One: rows of different lengths take in a token each."""
        return 1

    @property
    def eyes(self) -> OnnxEyes | None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        return self._eyes

    def forward(self, plan: StepPlan) -> StepResult:
        """Runs one step; see :class:`workers.runtime.engine.backend.Backend`."""
        if plan.changes:
            self._carried = None
        carry_out(plan.changes, self._cache)
        began = time.perf_counter()
        chunks = (*plan.chunks, plan.staged.chunk) if plan.staged else plan.chunks
        logits = [self._prefill(chunk) for chunk in chunks]
        between = time.perf_counter()
        if plan.rows:
            logits.append(self._decode(plan.rows))
        ended = time.perf_counter()
        none = np.empty((0, self._vocabulary), np.float32)
        return StepResult(np.concatenate([none, *logits]), between - began, ended - between)

    def trim(self) -> None:
        """See :class:`workers.runtime.engine.backend.Backend`."""
        self._carried = None
        self._decoder.trim()
        if self._eyes is not None:
            self._eyes.trim()

    def _token_inputs(
        self, graphs: Graphs, description: ModelDescription, config: EngineConfig
    ) -> TokenInputs:
        if not self._decoder.embeds:
            return PlainIds()
        if graphs.embedding is None:
            raise UnsupportedModel(
                "the decoder takes embeddings, but there is no embed_tokens that looks them up"
            )
        session = open_session(config.folder / graphs.embedding, threads=config.threads)
        if self._eyes is None or description.vision is None:
            return Embeddings(session, self._decoder.inputs())
        image = description.vision.image_token_id
        return Embeddings(session, self._decoder.inputs(), self._eyes.gather, image)

    def _empty(self, rows: int, places: int) -> dict[str, NDArray[Any]]:
        return {name: np.array(part[:, :, :places]) for name, part in self._cache.rows(0, rows).items()}

    def _prefill(self, chunk: Chunk) -> NDArray[np.float32]:
        """Computes a piece of a prompt. Returns ``[1, vocabulary]`` for the last of one, else no row."""
        self._carried = None
        logits = np.empty((0, self._vocabulary), np.float32)
        for start, tokens in self._pieces(chunk):
            last = chunk.last and start + len(tokens) == chunk.end
            logits = self._append(chunk.slot, start, tokens, wanted=int(last))
        return logits

    def _pieces(self, chunk: Chunk) -> Iterator[tuple[int, Sequence[int]]]:
        """As many tokens a run as their logits have room for; where each piece starts, and its tokens."""
        most = len(chunk.tokens)
        if not self._decoder.keeps_last:
            most = max(LOGIT_BYTES // (self._vocabulary * np.dtype(np.float32).itemsize), 1)
        for first in range(0, len(chunk.tokens), most):
            yield chunk.start + first, chunk.tokens[first : first + most]

    def _append(self, slot: int, start: int, tokens: Sequence[int], wanted: int) -> NDArray[np.float32]:
        """Runs one row over several tokens. Returns ``[wanted, vocabulary]``, of the last ones."""
        end = start + len(tokens)
        self._cache.reserve(slot, end)
        slots = self._cache.rows(slot, 1)
        past = {name: np.ascontiguousarray(part[:, :, :start]) for name, part in slots.items()}
        ids, positions = np.array([tokens], np.int64), np.arange(start, end)[None]
        batch = Batch(self._inputs(ids), past, np.ones((1, end), np.int64), positions)
        logits, present = self._decoder.run(batch, wanted, self._vocabulary)
        for name, part in slots.items():
            part[:, :, start:end] = present[name][:, :, start:end]
        found: NDArray[np.float32] = logits[0]
        return found

    def _decode(self, rows: tuple[Row, ...]) -> NDArray[np.float32]:
        """Returns ``[rows, vocabulary]``; or a row more for each draft, if the step's one row has some."""
        if rows[0].drafts:
            self._carried = None
            tokens = (rows[0].token, *rows[0].drafts)
            return self._append(0, rows[0].past, tokens, wanted=len(tokens))
        logits = np.empty((len(rows), self._vocabulary), np.float32)
        groups = list(self._groups(rows))
        for group in groups:
            logits[group.slots] = self._step(group)
        if len(groups) > 1:
            self._carried = None
        return logits

    def _groups(self, rows: tuple[Row, ...]) -> Iterator[_Group]:
        """The rows that share a run."""
        numbered = [_Numbered(slot, row.past, row.token) for slot, row in enumerate(rows)]
        match self.batching:
            case Batching.SINGLE:
                parts: Iterable[list[_Numbered]] = ([row] for row in numbered)
            case Batching.ALIGNED:
                by_length = sorted(numbered, key=_past)
                parts = (list(alike) for _, alike in groupby(by_length, key=_past))
            case _:
                parts = [numbered]
        for part in parts:
            places = max(row.past for row in part) + 1
            most = max(RUN_BYTES // (places * self._token_bytes), 1)
            for first in range(0, len(part), most):
                yield _Group.of(part[first : first + most])

    def _step(self, group: _Group) -> NDArray[np.float32]:
        """One token more for the rows of a group. Returns ``[rows, vocabulary]``."""
        for slot, length in zip(group.slots, group.lengths, strict=True):
            self._cache.reserve(int(slot), int(length) + 1)
        before = self._carried if self._carried and self._carried.leads_to(group) else self._gathered(group)
        width = before.mask.shape[1]
        mask = with_new(before.mask, group.lengths, self.batching)
        batch = Batch(self._inputs(group.tokens[:, None]), before.past, mask, group.lengths[:, None])
        logits, present = self._decoder.run(batch, 1, self._vocabulary)
        places = new_places(group.lengths, width, self.batching)
        index = np.arange(len(places))
        for name, array in self._cache.rows(0, int(group.slots.max()) + 1).items():
            array[group.slots, :, group.lengths] = present[name][index, :, places]
        self._carried = _Carried(group.slots, group.lengths + 1, mask, present)
        return logits[:, 0]

    def _gathered(self, group: _Group) -> _Carried:
        """The rows' keys and values as far as the longest of them reaches."""
        width = int(group.lengths.max())
        arrays = self._cache.rows(0, int(group.slots.max()) + 1)
        past = {name: array[group.slots, :, :width] for name, array in arrays.items()}
        return _Carried(group.slots, group.lengths, mask_of(group.lengths, width), past)


def _eyes(graphs: Graphs, description: ModelDescription, config: EngineConfig) -> OnnxEyes | None:
    if graphs.vision is None:
        return None
    return OnnxEyes(config.folder / graphs.vision, description, threads=config.threads)


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A row and the slot that it stands in."""

    slot: int
    past: int
    token: int


def _past(row: _Numbered) -> int:
    return row.past


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that share a run; all arrays int64 ``[rows]``."""

    slots: NDArray[np.int64]
    lengths: NDArray[np.int64]
    """Tokens before the new one."""
    tokens: NDArray[np.int64]

    @classmethod
    def of(cls, rows: list[_Numbered]) -> _Group:
        slots, lengths, tokens = np.array([(row.slot, row.past, row.token) for row in rows], np.int64).T
        return cls(slots, lengths, tokens)


@dataclass(frozen=True, slots=True)
class _Carried:
    """Keys and values of some rows as one run takes them."""

    slots: NDArray[np.int64]
    lengths: NDArray[np.int64]
    mask: NDArray[np.int64]
    """``[rows, places]``."""
    past: dict[str, NDArray[Any]]

    def leads_to(self, group: _Group) -> bool:
        """Whether the group goes on with just these rows."""
        return np.array_equal(self.slots, group.slots) and np.array_equal(self.lengths, group.lengths)
