"""The same model in full precision on both backends: the same logits, and the same tokens."""

from __future__ import annotations

import numpy as np
import pytest
import tokenizers

from tests.fixtures.tiny_llama import write_tiny_llama
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.progress import silent
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.convert import convert_checkpoint

SLOTS = 6
TOKENS = 24
LENGTHS = (3, 9, 17, 33, 64, 100)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    source = write_tiny_llama(tmp_path_factory.mktemp("source") / "tiny.gguf")
    onnx, torch = tmp_path_factory.mktemp("onnx"), tmp_path_factory.mktemp("torch")
    convert_gguf(source, onnx, precision="fp32", report=silent)
    convert_checkpoint(source, torch, profile="fp32", report=silent)
    return {"onnx": onnx, "torch": torch}


@pytest.fixture(scope="module")
def backends(folders):
    kinds = {"onnx": OnnxBackend, "torch": TorchBackend}
    return {
        name: kinds[name](ModelDescription.load(folder), EngineConfig(folder, slots=SLOTS))
        for name, folder in folders.items()
    }


def prompt(slot):
    return tuple(np.random.default_rng(slot).integers(10, 280, LENGTHS[slot]).tolist())


def together(backend):
    """Greedy texts and logits of all prompts, in rows of one batch: ``[tokens, slots, vocabulary]``."""
    chunks = [Chunk(slot, slot, 0, prompt(slot), last=True) for slot in range(SLOTS)]
    steps = [np.concatenate([backend.forward(StepPlan(chunks=(each,))).logits.copy() for each in chunks])]
    for done in range(TOKENS - 1):
        chosen = steps[-1].argmax(1)
        rows = tuple(Row(slot, LENGTHS[slot] + done, int(chosen[slot])) for slot in range(SLOTS))
        steps.append(backend.forward(StepPlan(rows=rows)).logits.copy())
    return np.stack(steps)


def alone(backend, slot):
    """The same of one prompt, in a batch of its own: ``[tokens, vocabulary]``."""
    steps = [backend.forward(StepPlan(chunks=(Chunk(0, 0, 0, prompt(slot), last=True),))).logits[0].copy()]
    for done in range(TOKENS - 1):
        row = Row(0, LENGTHS[slot] + done, int(steps[-1].argmax()))
        steps.append(backend.forward(StepPlan(rows=(row,))).logits[0].copy())
    return np.stack(steps)


def assert_equal(first, second):
    np.testing.assert_array_equal(first.argmax(-1), second.argmax(-1))
    np.testing.assert_allclose(first, second, rtol=0, atol=2e-5 * np.abs(second).max())


def test_batches_agree(backends):
    assert_equal(together(backends["torch"]), together(backends["onnx"]))


@pytest.mark.parametrize("slot", range(SLOTS))
def test_single_sequences_agree(backends, slot):
    assert_equal(alone(backends["torch"], slot), alone(backends["onnx"], slot))


def test_a_batch_agrees_with_single_sequences_of_the_other(backends):
    batch = together(backends["torch"])
    assert_equal(batch, np.stack([alone(backends["onnx"], slot) for slot in range(SLOTS)], 1))


def test_tokenizers_agree(folders):
    both = [tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in folders.values()]
    for text in (
        "the user's model is 🙂 to é",
        "<|im_start|>user\nHi<|im_end|>\n",
        "  tabs\tand 12345 digits",
    ):
        onnx, torch = (each.encode(text, add_special_tokens=False).ids for each in both)
        assert onnx == torch


def test_descriptions_agree(folders):
    onnx, torch = (ModelDescription.load(folder) for folder in folders.values())
    for name in (
        "vocab_size",
        "context_length",
        "layers",
        "kv_heads",
        "head_dim",
        "hidden_size",
        "bos_token",
        "eos_token",
        "eos_token_ids",
        "add_bos",
        "chat_template",
        "kv_bytes_per_token",
    ):
        assert getattr(onnx, name) == getattr(torch, name), name
