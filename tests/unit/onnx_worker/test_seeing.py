"""A converted model with eyes: what it sees changes what it says, as the reference has it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures.tiny_eyes import ROWS, TEXT_LAYERS, TILE, write_tiny_eyes
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.convert import convert_checkpoint
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.fidelity.eyes import EyesReference
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent

SLOTS = 4
PICTURE, OTHER = range(-ROWS, 0), range(-2 * ROWS, -ROWS)
BEFORE, BEHIND = (1, 40, 41), (60, 61, 62, 63)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_eyes(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module", params=["fp32", "int8"])
def folder(request, checkpoint, tmp_path_factory):
    target = tmp_path_factory.mktemp("prepared")
    convert_checkpoint(checkpoint, target, precision=request.param, report=silent)
    return target


@pytest.fixture
def backend(folder):
    opened = OnnxBackend(ModelDescription.load(folder), EngineConfig(folder, slots=SLOTS, max_length=128))
    for ids in (PICTURE, OTHER):
        opened.eyes.encode(ids, tile(ids))
    return opened


def tile(ids):
    return np.random.default_rng(-ids[0]).uniform(-1, 1, (1, 3, TILE, TILE)).astype(np.float32)


def seeing(ids):
    return (*BEFORE, *ids, *BEHIND)


def prefill(backend, slot, tokens, start=0):
    piece = Chunk(slot, slot, start, tuple(tokens), last=True)
    return backend.forward(StepPlan(chunks=(piece,))).logits.copy()[0]


class SeeingReference(Reference):
    """Looks up rows of features in the place of tokens below zero."""

    def __init__(self, checkpoint):
        super().__init__(checkpoint, dtype=np.float64)
        self._features = EyesReference(checkpoint, np.float64)

    def _weight(self, name, rows=slice(None)):
        if name != "token_embd" or isinstance(rows, slice):
            return super()._weight(name, rows)
        found = super()._weight(name, np.maximum(rows, 0))
        for ids in (PICTURE, OTHER):
            of = np.isin(rows, ids)
            if of.any():
                found[of] = self._features.features(tile(ids)[0])[np.asarray(rows)[of] - ids[0]]
        return found


def test_logits_equal_the_reference(backend, folder, checkpoint):
    precision = ModelDescription.load(folder).precision
    for ids in (PICTURE, OTHER):
        expected = np.concatenate(list(SeeingReference(checkpoint).logits(seeing(ids))))[-1]
        logits = prefill(backend, 0, seeing(ids))
        limit = 1e-5 if precision == "fp32" else 0.15
        np.testing.assert_allclose(logits, expected, rtol=0, atol=limit * np.abs(expected).max())


def test_pictures_beside_text_in_one_run_are_as_alone(backend):
    prompts = [seeing(PICTURE), (5,) * 22, seeing(OTHER)]
    alone = [prefill(backend, slot, tokens) for slot, tokens in enumerate(prompts)]
    chunks = tuple(Chunk(slot, slot, 0, tokens, last=True) for slot, tokens in enumerate(prompts))
    together = backend.forward(StepPlan(chunks=chunks)).logits.copy()
    np.testing.assert_array_equal(together, np.stack(alone))
    rows = tuple(Row(slot, len(tokens), 33) for slot, tokens in enumerate(prompts))
    behind = backend.forward(StepPlan(rows=rows)).logits.copy()
    for slot, tokens in enumerate(prompts):
        prefill(backend, 0, tokens)
        single = backend.forward(StepPlan(rows=(Row(0, len(tokens), 33),))).logits
        np.testing.assert_array_equal(single[0], behind[slot])


def test_a_picture_may_be_cut_between_pieces_and_stages(backend, folder):
    tokens = seeing(PICTURE)
    expected = prefill(backend, 0, tokens)
    prefill(backend, 1, tokens[:10])
    cut = prefill(backend, 1, tokens[10:], start=10)
    limit = 1e-5 if ModelDescription.load(folder).precision == "fp32" else 0.1
    np.testing.assert_allclose(cut, expected, rtol=0, atol=limit * np.abs(expected).max())
    assert backend.stages == TEXT_LAYERS
    piece = Chunk(2, 2, 0, tokens, last=True)
    for stage in range(TEXT_LAYERS):
        staged = StagedChunk(piece, stage, 1, TEXT_LAYERS)
        logits = backend.forward(StepPlan(staged=staged, rows=(Row(0, len(tokens), 9),))).logits
    np.testing.assert_allclose(logits[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_forgotten_features_are_gone(backend):
    backend.eyes.forget(PICTURE)
    with pytest.raises(KeyError):
        prefill(backend, 0, seeing(PICTURE))
    prefill(backend, 0, seeing(OTHER))
