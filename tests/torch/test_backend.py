"""One step over slots: whatever is computed together equals what is computed alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.fixtures.random_checkpoint import LLAMA, write_checkpoint
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Copy, Release, Row, StepPlan, Swap
from workers.runtime.progress import silent
from workers.torch_worker.backend import TorchBackend
from workers.torch_worker.convert import convert_checkpoint
from workers.torch_worker.int8 import Int8Matrix, quantise_rows

SLOTS = 4
LENGTHS = (9, 3, 20, 21)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def prepared(checkpoint, tmp_path_factory):
    """Prepared folders by profile."""
    folders = {}
    for profile in ("fp32", "int8", "bf16"):
        folders[profile] = tmp_path_factory.mktemp(profile)
        convert_checkpoint(checkpoint, folders[profile], profile=profile, report=silent)
    return folders


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory):
    """The fp32 artefact as one of an architecture that can't share runs."""
    folder = tmp_path_factory.mktemp("plain")
    for file in prepared["fp32"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    text = (folder / "model.json").read_text().replace('"batched": true', '"batched": false')
    (folder / "model.json").write_text(text)
    assert not ModelDescription.load(folder).batched
    return folder


@pytest.fixture(params=["fp32", "int8", "plain"])
def folder(request, prepared, plain):
    return plain if request.param == "plain" else prepared[request.param]


def opened(folder):
    config = EngineConfig(folder, slots=SLOTS, max_length=128, device="cpu")
    return TorchBackend(ModelDescription.load(folder), config)


@pytest.fixture
def backend(folder):
    return opened(folder)


def prompt(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(10, 280, length).tolist())


def chunk(slot, tokens, start=0, *, last=True):
    return Chunk(slot, slot, start, tokens, last=last)


def step(backend, **plan):
    return backend.forward(StepPlan(**plan)).logits.copy()


def prefill(backend, lengths=LENGTHS):
    """Each prompt in a step of its own, so that slots hold them."""
    return np.concatenate(
        [step(backend, chunks=(chunk(slot, prompt(n, slot)),)) for slot, n in enumerate(lengths)]
    )


def assert_same(logits, expected, folder):
    """Bit by bit in int8, whose sums are exact; but for what attention adds up in another order."""
    tolerance = 1e-5 if ModelDescription.load(folder).precision == "fp32" else 2e-2
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("lengths", [(9, 9, 9), (7, 8, 9), (3, 20, 21), (20, 3, 3)])
def test_beginnings_in_one_run_equal_those_alone(backend, folder, lengths):
    alone = prefill(backend, lengths)
    chunks = tuple(chunk(slot, prompt(length, slot)) for slot, length in enumerate(lengths))
    assert_same(step(backend, chunks=chunks), alone, folder)


def test_ragged_rows_equal_single_rows(backend, folder):
    """Greedily, for a dozen tokens: rows join one after the other, and leave."""
    firsts = prefill(backend).argmax(1)
    texts = {slot: [int(first)] for slot, first in enumerate(firsts)}
    for _ in range(12):
        rows = tuple(
            Row(slot, LENGTHS[slot] + len(texts[slot]) - 1, texts[slot][-1]) for slot in range(SLOTS)
        )
        for slot, token in enumerate(step(backend, rows=rows).argmax(1)):
            texts[slot].append(int(token))
    for slot, length in enumerate(LENGTHS):
        alone = [int(step(backend, chunks=(chunk(0, prompt(length, slot)),)).argmax())]
        for _ in range(12):
            row = Row(0, length + len(alone) - 1, alone[-1])
            alone.append(int(step(backend, rows=(row,)).argmax()))
        assert texts[slot] == alone


def test_chunks_equal_the_whole(backend, folder):
    tokens = prompt(30)
    whole = step(backend, chunks=(chunk(0, tokens),))
    assert step(backend, chunks=(chunk(0, tokens[:11], last=False),)).shape == (0, LLAMA.vocab_size)
    assert_same(step(backend, chunks=(chunk(0, tokens[11:], 11),)), whole, folder)


def test_drafts_equal_single_tokens(backend, folder):
    step(backend, chunks=(chunk(0, prompt(9)),))
    one_by_one = np.concatenate([step(backend, rows=(Row(0, 9 + i, 33 + i),)) for i in range(3)])
    assert_same(step(backend, rows=(Row(0, 9, 33, (34, 35)),)), one_by_one, folder)


def test_changes(backend, folder):
    """What was swapped and copied goes on as if always there; what was released is computed again."""
    tokens = prompt(20)
    step(backend, chunks=(chunk(0, tokens),))
    expected = step(backend, rows=(Row(0, 20, 40),))
    swapped = step(backend, changes=(Swap(0, 2), Swap(2, 0)), rows=(Row(0, 20, 40),))
    assert_same(swapped, expected, folder)
    copied = (Copy(0, 1, 0, 12), Copy(0, 1, 12, 20), Swap(0, 1), Release(1, 0))
    assert_same(step(backend, changes=copied, rows=(Row(0, 20, 40),)), expected, folder)
    step(backend, changes=(Release(0, 7),))
    again = step(backend, chunks=(chunk(0, (*tokens[7:], 40), 7),))
    assert_same(again, expected, folder)


def test_logits_are_those_of_transformers(checkpoint, prepared, plain):
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for folder in (prepared["fp32"], plain):
        logits = prefill(opened(folder))
        for slot, length in enumerate(LENGTHS):
            with torch.inference_mode():
                expected = model(torch.tensor([prompt(length, slot)])).logits[0, -1].numpy()
            np.testing.assert_allclose(logits[slot], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("profile", ["int8", "bf16"])
def test_smaller_precisions_are_close(prepared, profile):
    exact, close = prefill(opened(prepared["fp32"])), prefill(opened(prepared[profile]))
    assert not np.array_equal(exact, close)
    assert np.abs(exact - close).max() < 0.1 * np.abs(exact).max()


def test_only_wanted_positions_reach_the_head(backend):
    seen = []
    head = backend._runner._model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[:-1].numel()))
    step(backend, chunks=(chunk(0, prompt(30)),))
    assert seen == [1]
    step(backend, chunks=(chunk(0, prompt(30), last=False),))
    assert seen == [1, 0]


def test_only_int8_is_decoded_by_fewer_threads(prepared, monkeypatch):
    """Where a number of threads changes bits, nothing but the configuration may choose it."""
    for profile, chosen in (("fp32", set()), ("bf16", set()), ("int8", {2})):
        config = EngineConfig(prepared[profile], slots=SLOTS, max_length=128, device="cpu", threads=2)
        backend = TorchBackend(ModelDescription.load(prepared[profile]), config)
        used = set()
        monkeypatch.setattr(backend._threads, "_use", used.add)
        step(backend, chunks=(chunk(0, prompt(9)),))
        step(backend, rows=(Row(0, 9, 5),))
        assert used == chosen, profile


@pytest.mark.parametrize("rows", [1, 16])
def test_integer_products_are_the_same_with_any_number_of_threads(rows):
    torch.manual_seed(0)
    matrix, inputs = Int8Matrix(*quantise_rows(torch.randn(4096, 576))), torch.randn(rows, 576)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            found.append(matrix(inputs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
