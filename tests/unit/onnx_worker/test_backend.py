"""What one step computes does not depend on how it is cut: with others in one run, or stage by stage."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures.tiny_llama import LAYERS, write_tiny_llama
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.progress import silent

SLOTS = 4


@pytest.fixture(scope="module", params=["fp32", "int8"])
def folder(request, tmp_path_factory):
    target = tmp_path_factory.mktemp("prepared")
    source = write_tiny_llama(tmp_path_factory.mktemp("source") / "tiny.gguf")
    convert_gguf(source, target, precision=request.param, report=silent)
    return target


@pytest.fixture
def backend(folder):
    return OnnxBackend(ModelDescription.load(folder), EngineConfig(folder, slots=SLOTS, max_length=128))


def prompt(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(10, 280, length).tolist())


def chunk(slot, tokens, start=0, *, last=True):
    return Chunk(slot, slot, start, tokens, last=last)


def computed(backend, *chunks):
    """Logits of chunks that are computed in steps of their own, ``[chunks, vocabulary]``."""
    return np.concatenate([backend.forward(StepPlan(chunks=(each,))).logits.copy() for each in chunks])


def assert_same(logits, expected, folder):
    """Bit by bit in int8. In float32, matrices that aren't laid out are multiplied in another order."""
    if ModelDescription.load(folder).precision == "int8":
        np.testing.assert_array_equal(logits, expected)
    else:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("lengths", [(9, 9, 9), (7, 8, 9), (3, 20, 21), (20, 3, 3), (30, 1, 2)])
def test_beginnings_in_one_run_equal_those_alone(backend, lengths):
    chunks = [chunk(slot, prompt(length, slot)) for slot, length in enumerate(lengths)]
    alone = computed(backend, *chunks)
    together = backend.forward(StepPlan(chunks=tuple(chunks))).logits.copy()
    np.testing.assert_array_equal(together, alone)
    # What they left behind is the same too: decode behind it.
    rows = tuple(Row(slot, length, 33) for slot, length in enumerate(lengths))
    behind = backend.forward(StepPlan(rows=rows)).logits.copy()
    computed(backend, *chunks)
    np.testing.assert_array_equal(backend.forward(StepPlan(rows=rows)).logits, behind)


def test_logits_come_for_last_chunks_only(backend):
    chunks = [chunk(slot, prompt(8, slot), last=slot != 1) for slot in range(3)]
    together = backend.forward(StepPlan(chunks=tuple(chunks))).logits.copy()
    np.testing.assert_array_equal(together, computed(backend, chunks[0], chunks[2]))


@pytest.mark.parametrize("counts", [(1,) * LAYERS, (2, 1), (LAYERS,)])
@pytest.mark.parametrize("start", [0, 24])
def test_a_chunk_in_stages_equals_one_at_once(backend, folder, counts, start):
    whole = prompt(40)
    if start:
        computed(backend, chunk(3, whole[:start], last=False))
    piece = chunk(3, whole[start:], start)
    expected = computed(backend, piece)
    done, logits = 0, []
    for count in counts:
        staged = StagedChunk(piece, done, count, backend.stages)
        # Streams go on meanwhile, over the first rows.
        result = backend.forward(StepPlan(rows=(Row(0, done, 11),), staged=staged))
        done += count
        logits.append(result.logits[:-1].copy())
    assert backend.stages == LAYERS
    assert [len(rows) for rows in logits] == [0] * (len(counts) - 1) + [1]
    assert_same(logits[-1], expected, folder)


def test_a_piece_that_was_given_up_is_forgotten(backend, folder):
    piece, other = chunk(3, prompt(30)), chunk(2, prompt(12, 5))
    expected = computed(backend, other)
    backend.forward(StepPlan(staged=StagedChunk(piece, 0, 2, LAYERS)))
    backend.trim()
    result = backend.forward(StepPlan(staged=StagedChunk(other, 0, LAYERS, LAYERS)))
    assert_same(result.logits, expected, folder)
