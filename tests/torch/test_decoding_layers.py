"""Layers in fewer operations: taken where they give the same, left alone where they don't."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    OlmoConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from tests.fixtures.families import TEXT_FAMILIES
from tests.fixtures.random_checkpoint import LLAMA, write_checkpoint
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.progress import silent
from workers.torch_worker import loading
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.convert import convert_checkpoint
from workers.torch_worker.decoding_layers import DecodingLayer, shorten_layers

SHAPE = {
    name: getattr(LLAMA, name)
    for name in (
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "max_position_embeddings",
        "bos_token_id",
        "eos_token_id",
        "pad_token_id",
    )
}
LENGTHS = (9, 3, 20)


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a model of a configuration, and says how many layers were taken."""

    def open_(config, *, profile="int8", shorten=True):
        checkpoint, folder = tmp_path / "checkpoint", tmp_path / profile
        if not folder.exists():
            folder.mkdir()
            write_checkpoint(checkpoint, config)
            convert_checkpoint(checkpoint, folder, profile=profile, report=silent)
        taken = []
        monkeypatch.setattr(
            loading, "shorten_layers", lambda *given: taken.append(shorten_layers(*given) if shorten else 0)
        )
        settings = EngineConfig(folder, slots=len(LENGTHS), max_length=64, device="cpu")
        return TorchBackend(ModelDescription.load(folder), settings), taken[0]

    return open_


def decoded(backend, steps=6):
    """Logits of some steps over rows of different lengths, each taking in the same tokens."""
    generator = np.random.default_rng(0)
    for slot, length in enumerate(LENGTHS):
        tokens = tuple(generator.integers(10, 280, length).tolist())
        backend.forward(StepPlan(chunks=(Chunk(slot, slot, 0, tokens, last=True),)))
    found = []
    for number in range(steps):
        rows = tuple(
            Row(slot, length + number, int(generator.integers(10, 280)))
            for slot, length in enumerate(LENGTHS)
        )
        found.append(backend.forward(StepPlan(rows=rows)).logits.copy())
    return np.concatenate(found)


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE),
        LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True, hidden_act="gelu"),
        LlamaConfig(**SHAPE, head_dim=32, rope_theta=1e6),
        MistralConfig(**SHAPE, sliding_window=None),
        Qwen2Config(**SHAPE),
    ],
    ids=["llama", "biases and gelu", "wide heads", "mistral", "qwen-2"],
)
def test_layers_of_the_form_compute_what_they_did(opened, config):
    expected, nothing = opened(config, shorten=False)
    short, taken = opened(config)
    assert (nothing, taken) == (0, config.num_hidden_layers)
    whole = decoded(expected)
    np.testing.assert_allclose(decoded(short), whole, rtol=0, atol=2e-2 * np.abs(whole).max())


@pytest.mark.parametrize("family", TEXT_FAMILIES, ids=lambda family: family.name)
def test_every_family_decodes_what_it_did(tmp_path, monkeypatch, family):
    family.write(tmp_path / "checkpoint")
    (tmp_path / "int8").mkdir()
    convert_checkpoint(tmp_path / "checkpoint", tmp_path / "int8", profile="int8", report=silent)
    description = ModelDescription.load(tmp_path / "int8")
    settings = EngineConfig(tmp_path / "int8", slots=len(LENGTHS), max_length=64, device="cpu")
    found = decoded(TorchBackend(description, settings))
    monkeypatch.setattr(loading, "shorten_layers", lambda *_: 0)
    expected = decoded(TorchBackend(description, settings))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-2 * np.abs(expected).max())


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SHAPE, sliding_window=8),
        Qwen3Config(**SHAPE),
        GraniteConfig(**SHAPE, residual_multiplier=0.5),
        OlmoConfig(**SHAPE, clip_qkv=100.0),
        Phi3Config(**SHAPE),
    ],
    ids=["a window", "normed heads", "scaled residuals", "clipped heads", "one matrix"],
)
def test_other_layers_are_left_alone(opened, config):
    assert opened(config)[1] == 0


def test_one_slot_is_enough_to_try_them(tmp_path):
    write_checkpoint(tmp_path / "checkpoint", LLAMA)
    (tmp_path / "int8").mkdir()
    convert_checkpoint(tmp_path / "checkpoint", tmp_path / "int8", profile="int8", report=silent)
    settings = EngineConfig(tmp_path / "int8", slots=1, cache_slots=0, max_length=64, device="cpu")
    backend = TorchBackend(ModelDescription.load(tmp_path / "int8"), settings)
    tokens = tuple(range(10, 20))
    first = backend.forward(StepPlan(chunks=(Chunk(0, 0, 0, tokens, last=True),))).logits.copy()
    assert np.isfinite(first).all()
    assert np.isfinite(backend.forward(StepPlan(rows=(Row(0, 10, int(first.argmax())),))).logits).all()


def test_floats_are_left_alone(opened):
    assert opened(LLAMA, profile="fp32")[1] == 0


def test_a_layer_that_gives_something_else_is_not_taken(opened, monkeypatch):
    monkeypatch.setattr(DecodingLayer, "decoded", lambda _, states, *__: torch.zeros_like(states))
    assert opened(LLAMA)[1] == 0
