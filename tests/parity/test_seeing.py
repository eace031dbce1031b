"""The same model with eyes in full precision on both backends: the same features, logits and tokens."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fixtures.tiny_eyes import ROWS, TILE, write_tiny_eyes
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.progress import silent
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.prepare import CheckpointToTorch

SLOTS = 3
TOKENS = 16
TILES = 2


@pytest.fixture(scope="module")
def backends(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    write_tiny_eyes(source)
    opened = {}
    for name, prepare, kind in (
        ("onnx", ToOnnx(), OnnxBackend),
        ("torch", CheckpointToTorch(), TorchBackend),
    ):
        folder = tmp_path_factory.mktemp(name)
        prepare(source, folder, profile="fp32", report=silent)
        opened[name] = kind(ModelDescription.load(folder), EngineConfig(folder, slots=SLOTS))
    for backend in opened.values():
        for index, ids in enumerate(TILE_IDS):
            backend.eyes.encode(ids, pixels(index))
    return opened


def pixels(index):
    return np.random.default_rng(index).uniform(-1, 1, (1, 3, TILE, TILE)).astype(np.float32)


TILE_IDS = [range(-1 - index * ROWS, -1 - (index + 1) * ROWS, -1) for index in range(TILES)]
"""The rows of each tile, by the token ids that name them."""


def prompt(slot):
    """Text around the tile or tiles of a picture."""
    before, after = (
        np.random.default_rng((slot, side)).integers(10, 280, 3 + slot).tolist() for side in (0, 1)
    )
    shown = [token for ids in TILE_IDS[: 1 + slot % 2] for token in ids]
    return (*before, *shown, *after)


def greedy(backend, slots):
    """Logits of every step, ``[tokens, slots, vocabulary]``."""
    prompts = [prompt(slot) for slot in slots]
    chunks = [Chunk(row, row, 0, tokens, last=True) for row, tokens in enumerate(prompts)]
    steps = [np.concatenate([backend.forward(StepPlan(chunks=(each,))).logits.copy() for each in chunks])]
    for done in range(TOKENS - 1):
        chosen = steps[-1].argmax(1)
        rows = tuple(Row(row, len(tokens) + done, int(chosen[row])) for row, tokens in enumerate(prompts))
        steps.append(backend.forward(StepPlan(rows=rows)).logits.copy())
    return np.stack(steps)


def assert_equal(first, second):
    np.testing.assert_array_equal(first.argmax(-1), second.argmax(-1))
    np.testing.assert_allclose(first, second, rtol=0, atol=5e-5 * np.abs(second).max())


def test_features_agree(backends):
    for ids in TILE_IDS:
        onnx = np.asarray(backends["onnx"].eyes.gather(list(ids)))
        [torch] = (np.asarray(rows) for rows in backends["torch"].eyes.gather(list(ids)))
        np.testing.assert_allclose(torch, onnx, rtol=0, atol=5e-5 * np.abs(onnx).max())


def test_batches_agree(backends):
    assert_equal(greedy(backends["torch"], range(SLOTS)), greedy(backends["onnx"], range(SLOTS)))


def test_single_sequences_agree_with_the_batch_of_the_other(backends):
    batch = greedy(backends["torch"], range(SLOTS))
    for slot in range(SLOTS):
        assert_equal(batch[:, slot], greedy(backends["onnx"], [slot])[:, 0])


def test_pictures_are_seen(backends):
    """Another picture gives other logits: features do reach the decoder."""
    logits = greedy(backends["torch"], [0])[0]
    backend = backends["torch"]
    tokens = tuple(token - 2 * ROWS if token < 0 else token for token in prompt(0))
    other = range(TILE_IDS[0].start - 2 * ROWS, TILE_IDS[0].stop - 2 * ROWS, -1)
    backend.eyes.encode(other, pixels(7))
    seen = backend.forward(StepPlan(chunks=(Chunk(0, 0, 0, tokens, last=True),))).logits
    assert np.abs(seen - logits).max() > 1e-3
    backend.eyes.forget(other)
    with pytest.raises(KeyError):
        backend.forward(StepPlan(chunks=(Chunk(0, 0, 0, tokens, last=True),)))
