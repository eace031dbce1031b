"""Every family's graph, against the independent reference and against itself cut otherwise."""

from itertools import pairwise

import numpy as np
import pytest

from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.tiny_family import FAMILIES, write_tiny
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent

TOLERANCE = 3e-4  # of logits up to 40, float32 summed in another order
TOKENS = np.random.default_rng(3).integers(3, 294, (3, 90)).tolist()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def source(family, tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp(family) / "tiny.gguf", family)


@pytest.fixture(scope="module")
def folder(family, source, tmp_path_factory):
    folder = tmp_path_factory.mktemp(f"{family}-fp32")
    convert_gguf(source, folder, precision="fp32", report=silent)
    return folder


@pytest.fixture(scope="module")
def expected(source):
    return np.concatenate(list(Reference(source).logits(TOKENS[0])))


def difference(first, second):
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())


def test_fp32_agrees_with_the_reference(folder, expected):
    assert difference(PreparedRows(folder).prefill(TOKENS[0]), expected) < TOLERANCE


def test_greedy_tokens_are_the_references(folder, source):
    prompt, rows = TOKENS[1][:20], PreparedRows(folder)
    logits, tokens = rows.prefill(prompt)[-1], []
    for step in range(40):
        tokens.append(int(logits.argmax()))
        logits = rows.run([[tokens[-1]]], [len(prompt) + step + 1], [0])[0]
    whole = np.concatenate(list(Reference(source).logits([*prompt, *tokens])))
    assert whole[len(prompt) - 1 : -1].argmax(axis=1).tolist() == tokens


def test_chunks_give_what_the_whole_gives(folder, expected):
    rows, tokens, found = PreparedRows(folder), TOKENS[0], []
    for start, end in pairwise((0, 1, 8, 40, 41, 90)):
        found.append(rows.run([tokens[start:end]], [end], range(end - start)))
    assert difference(np.concatenate(found), expected) < TOLERANCE


def test_ragged_rows_decode_as_the_reference_says(folder, source):
    lengths = [5, 80, 41]
    together = PreparedRows(folder, rows=3)
    for row, length in enumerate(lengths):
        together.prefill(TOKENS[row][:length], row=row)
    ids = [[TOKENS[row][length]] for row, length in enumerate(lengths)]
    found = together.run(ids, [length + 1 for length in lengths], [0, 1, 2])
    for row, length in enumerate(lengths):
        whole = np.concatenate(list(Reference(source).logits(TOKENS[row][: length + 1])))
        assert difference(found[row], whole[-1]) < TOLERANCE


def test_padded_prompts_run_as_one_batch(folder, source):
    ids = [TOKENS[0][:50], TOKENS[1][:20]]
    found = PreparedRows(folder, rows=2).run(ids, [50, 20], [49, 50 + 19])
    for row, prompt in enumerate((TOKENS[0][:50], TOKENS[1][:20])):
        assert difference(found[row], np.concatenate(list(Reference(source).logits(prompt)))[-1]) < TOLERANCE


def stepped_through(folder):
    """Logits behind a prompt that went through in stages, and of a token behind it."""
    backend = OnnxBackend(ModelDescription.load(folder), EngineConfig(folder=folder, slots=2, max_length=128))
    tokens = tuple(TOKENS[0])
    half = Chunk(sequence=0, slot=0, start=0, tokens=tokens[:30], last=False)
    rest = Chunk(sequence=0, slot=0, start=30, tokens=tokens[30:-1], last=True)
    found = []
    for chunk in (half, rest):
        for stage in range(backend.stages):
            staged = StagedChunk(chunk=chunk, first=stage, count=1, of=backend.stages)
            found += list(backend.forward(StepPlan(staged=staged)).logits)
    row = Row(sequence=0, past=len(tokens) - 1, token=tokens[-1])
    found += list(backend.forward(StepPlan(rows=(row,))).logits)
    return backend.stages, np.stack(found)


def test_stages_give_what_the_whole_gives(folder, expected):
    stages, found = stepped_through(folder)
    assert stages > 1
    assert difference(found, expected[-2:]) < TOLERANCE


def test_int8_is_near_the_reference(source, expected, tmp_path):
    convert_gguf(source, tmp_path, precision="int8", report=silent)
    found = PreparedRows(tmp_path).prefill(TOKENS[0])
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    _, staged = stepped_through(tmp_path)
    assert np.abs(staged - expected[-2:]).mean() < 0.1 * np.abs(expected).mean()


@pytest.mark.parametrize("quantization", ["Q8_0", "Q5_0", "BF16"])
def test_packed_tensors_are_unpacked(family, tmp_path, quantization):
    source = write_tiny(tmp_path / "tiny.gguf", family, quantization=quantization)
    convert_gguf(source, tmp_path, precision="fp32", report=silent)
    expected = np.concatenate(list(Reference(source).logits(TOKENS[0])))
    assert difference(PreparedRows(tmp_path).prefill(TOKENS[0]), expected) < TOLERANCE


def test_every_tensor_is_reported_and_the_family_named(family, source, tmp_path):
    seen = []
    description = convert_gguf(source, tmp_path, precision="fp32", report=seen.append)
    assert seen[-1].done == seen[-1].total
    assert description.architecture == {"mistral": "llama", "phi3-long": "phi3"}.get(family, family)
    assert description.context_length == (256 if family == "phi3-long" else 512)
