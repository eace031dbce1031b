"""A model with eyes: what it says of pictures is what transformers' own generation says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from tests.fixtures.tiny_eyes import ROWS, TILE, write_tiny_eyes
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.progress import silent
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.convert import convert_checkpoint

SLOTS = 3
TOKENS = 16
TILES = 2
TILE_IDS = [range(-1 - index * ROWS, -1 - (index + 1) * ROWS, -1) for index in range(TILES)]
"""The rows of each tile, by the token ids that name them."""


@pytest.fixture(scope="module", params=["idefics3", "smolvlm"])
def source(request, tmp_path_factory):
    return write_tiny_eyes(tmp_path_factory.mktemp("source"), model_type=request.param)


@pytest.fixture(scope="module")
def backends(source, tmp_path_factory):
    opened = {}
    for profile in ("fp32", "int8"):
        folder = tmp_path_factory.mktemp(profile)
        description = convert_checkpoint(source, folder, profile=profile, report=silent)
        assert description.batched
        assert description.vision is not None
        opened[profile] = TorchBackend(ModelDescription.load(folder), EngineConfig(folder, slots=SLOTS))
        for index, ids in enumerate(TILE_IDS):
            opened[profile].eyes.encode(ids, pixels(index))
    return opened


@pytest.fixture(scope="module")
def reference(source):
    return AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)


def pixels(index):
    return np.random.default_rng(index).uniform(-1, 1, (1, 3, TILE, TILE)).astype(np.float32)


def prompt(slot):
    """Text around the tile or tiles of a picture."""
    before, after = (
        np.random.default_rng((slot, side)).integers(10, 280, 3 + slot).tolist() for side in (0, 1)
    )
    shown = [token for ids in TILE_IDS[: 1 + slot % 2] for token in ids]
    return (*before, *shown, *after)


def greedy(backend, slots=range(SLOTS)):
    """Logits of every step, ``[tokens, slots, vocabulary]``."""
    prompts = [prompt(slot) for slot in slots]
    chunks = tuple(Chunk(row, row, 0, tokens, last=True) for row, tokens in enumerate(prompts))
    steps = [backend.forward(StepPlan(chunks=chunks)).logits.copy()]
    for done in range(TOKENS - 1):
        chosen = steps[-1].argmax(1)
        rows = tuple(Row(row, len(tokens) + done, int(chosen[row])) for row, tokens in enumerate(prompts))
        steps.append(backend.forward(StepPlan(rows=rows)).logits.copy())
    return np.stack(steps)


def generated(reference, slot):
    """Greedy tokens and the logits that they were chosen by, from plain ``generate``."""
    tokens = torch.tensor([prompt(slot)])
    ids = tokens.where(tokens >= 0, reference.config.image_token_id)
    tiles = torch.from_numpy(np.concatenate([pixels(index) for index in range(1 + slot % 2)]))[None]
    with torch.inference_mode():
        output = reference.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=tiles,
            do_sample=False,
            max_new_tokens=TOKENS,
            eos_token_id=-1,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    return output.sequences[0, ids.shape[1] :].numpy(), torch.cat(output.logits).numpy()


def test_tokens_are_those_of_plain_generate(backends, reference):
    logits = greedy(backends["fp32"])
    for slot in range(SLOTS):
        tokens, expected = generated(reference, slot)
        np.testing.assert_array_equal(logits[:, slot].argmax(1), tokens)
        np.testing.assert_allclose(logits[:, slot], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_single_sequences_equal_a_batch(backends):
    for backend in backends.values():
        batch = greedy(backend)
        for slot in range(SLOTS):
            np.testing.assert_array_equal(batch[:, slot].argmax(1), greedy(backend, [slot])[:, 0].argmax(1))


def test_int8_sees_about_the_same(backends):
    exact, close = (
        np.asarray(backends[profile].eyes.gather(list(TILE_IDS[0]))[0]) for profile in ("fp32", "int8")
    )
    assert not np.array_equal(exact, close)
    assert np.abs(exact - close).max() < 0.1 * np.abs(exact).max()


def test_what_is_forgotten_is_gone(backends):
    backend = backends["fp32"]
    ids = range(-1000, -1000 - ROWS, -1)
    backend.eyes.encode(ids, pixels(5))
    plan = StepPlan(chunks=(Chunk(0, 0, 0, (*ids, 20), last=True),))
    assert np.isfinite(backend.forward(plan).logits).all()
    backend.eyes.forget(ids)
    with pytest.raises(KeyError):
        backend.forward(plan)
