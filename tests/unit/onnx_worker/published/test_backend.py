"""Published graphs give the tokens of the in-place graph, in every layout, alone and together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnxruntime
import pytest

from tests.fixtures.published_graphs import write_published
from tests.fixtures.tiny_llama import HEAD_DIM, KV_HEADS, LAYERS, write_tiny_llama
from workers.onnx_worker.backend import OnnxBackend
from workers.onnx_worker.convert import convert_gguf
from workers.onnx_worker.published import backend as published
from workers.onnx_worker.published.backend import PublishedBackend
from workers.onnx_worker.published.batching import Batching
from workers.onnx_worker.published.prepare import prepare_published
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Copy, Release, Row, StepPlan, Swap
from workers.runtime.progress import silent

SLOTS = 4
STEPS = 12
LENGTHS = (9, 17, 4)

LAYOUTS = {
    "split": {},
    "single": {"split": False},
    "keeps": {"keeps": True},
    "grouped": {"grouped": True},
    "unmasked": {"grouped": True, "masked": False},
    "fp16": {"variant": "_fp16"},
    "quantized": {"variant": "_quantized"},
    "q4": {"variant": "_q4"},
    "gemma3n": {"per_layer": True},
}
PRECISIONS = {"fp16": "fp16", "quantized": "int8", "q4": "q4"}
BATCHINGS = {
    "grouped": Batching.LEADING,
    "unmasked": Batching.ALIGNED,
    "quantized": Batching.SINGLE,
}


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return write_tiny_llama(tmp_path_factory.mktemp("source") / "tiny.gguf")


@pytest.fixture(scope="module")
def prepared(gguf, tmp_path_factory):
    """Makes the prepared folder of a layout, once."""
    made = {}

    def prepare(layout):
        if layout not in made:
            source, target = tmp_path_factory.mktemp("hub"), tmp_path_factory.mktemp("prepared")
            write_published(source, gguf, **LAYOUTS[layout])
            prepare_published(source, target, precision=PRECISIONS.get(layout, "fp32"), report=silent)
            made[layout] = target
        return made[layout]

    return prepare


def opened(kind, folder, **options):
    config = EngineConfig(folder, slots=SLOTS, max_length=128, **options)
    return kind(ModelDescription.load(folder), config)


def prompt(length, seed=0):
    return tuple(np.random.default_rng(seed).integers(10, 280, length).tolist())


def prefill(backend, slot, tokens, *, cuts=()):
    """Logits behind a prompt that is computed in pieces."""
    edges = [0, *cuts, len(tokens)]
    for start, end in pairwise(edges):
        piece = Chunk(slot, slot, start, tokens[start:end], last=end == len(tokens))
        logits = backend.forward(StepPlan(chunks=(piece,))).logits.copy()
    return logits[0]


def decode(backend, firsts, lengths, steps=STEPS):
    """Greedy tokens of rows ``0 …`` behind given ones, and logits ``[steps, rows, vocabulary]``."""
    tokens, every = [list(firsts)], []
    for step in range(steps):
        rows = tuple(
            Row(slot, length + step, token)
            for slot, (length, token) in enumerate(zip(lengths, tokens[-1], strict=True))
        )
        logits = backend.forward(StepPlan(rows=rows)).logits.copy()
        every.append(logits)
        tokens.append(logits.argmax(axis=1).tolist())
    return np.array(tokens).T.tolist(), np.stack(every)


def greedy(backend, *, cuts=(), lengths=LENGTHS):
    firsts = [prefill(backend, slot, prompt(n, slot), cuts=cuts).argmax() for slot, n in enumerate(lengths)]
    return decode(backend, [int(token) for token in firsts], lengths)[0]


@pytest.fixture(scope="module")
def expected(gguf, tmp_path_factory):
    """What the in-place graph says."""
    folder = tmp_path_factory.mktemp("in-place")
    convert_gguf(gguf, folder, precision="fp32", report=silent)
    return greedy(opened(OnnxBackend, folder))


@pytest.mark.parametrize("cuts", [(), (3,)])
@pytest.mark.parametrize("layout", ["split", "single", "keeps", "grouped", "unmasked", "fp16"])
def test_tokens_equal_those_of_the_in_place_graph(prepared, expected, layout, cuts):
    assert greedy(opened(PublishedBackend, prepared(layout)), cuts=cuts) == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_together_equal_rows_alone(prepared, layout):
    backend = opened(PublishedBackend, prepared(layout))
    assert backend.batching is BATCHINGS.get(layout, Batching.RAGGED)
    together, logits = decode(
        backend, [prefill(backend, s, prompt(n, s)).argmax() for s, n in enumerate(LENGTHS)], LENGTHS
    )
    for slot, length in enumerate(LENGTHS):
        first = prefill(backend, 0, prompt(length, slot)).argmax()
        alone, alone_logits = decode(backend, [first], [length])
        assert alone[0] == together[slot]
        limit = (1e-3 if layout == "fp16" else 1e-5) * np.abs(alone_logits).max()
        np.testing.assert_allclose(logits[:, slot], alone_logits[:, 0], rtol=0, atol=limit)


def test_layers_that_share_keys_and_values(prepared):
    """Gemma-3n's layout, against plain runs of its graphs that keep nothing."""
    folder = prepared("gemma3n")
    assert ModelDescription.load(folder).layers == LAYERS - 1
    embed, decoder = (
        onnxruntime.InferenceSession(folder / "onnx" / name, providers=["CPUExecutionProvider"])
        for name in ("embed_tokens.onnx", "decoder_model_merged.onnx")
    )
    empty = np.empty((1, KV_HEADS, 0, HEAD_DIM), np.float32)
    none = {value.name: empty for value in decoder.get_inputs() if value.name.startswith("past")}

    def following(ids):
        embeds, per_layer = embed.run(None, {"input_ids": np.array([ids])})
        ones = np.ones((1, len(ids)), np.int64)
        inputs = {"inputs_embeds": embeds, "per_layer_inputs": per_layer, "attention_mask": ones}
        positions = {"position_ids": np.arange(len(ids))[None]}
        return int(decoder.run(["logits"], {**inputs, **positions, **none})[0][0, -1].argmax())

    answers = greedy(opened(PublishedBackend, folder))
    for slot, length in enumerate(LENGTHS):
        ids = list(prompt(length, slot))
        for token in answers[slot]:
            assert token == following(ids)
            ids.append(token)


@pytest.mark.parametrize("layout", ["split", "grouped", "quantized"])
def test_drafts_are_verified_in_one_run(prepared, layout):
    backend = opened(PublishedBackend, prepared(layout))
    first = int(prefill(backend, 0, prompt(9)).argmax())
    tokens, logits = decode(backend, [first], [9], steps=4)
    prefill(backend, 0, prompt(9))
    row = Row(0, 9, first, tuple(tokens[0][1:4]))
    verified = backend.forward(StepPlan(rows=(row,))).logits
    if layout == "quantized":  # rounded together, the tokens differ a little
        assert verified.argmax(axis=1).tolist() == tokens[0][1:]
    else:
        np.testing.assert_allclose(verified, logits[:, 0], rtol=0, atol=1e-5 * np.abs(logits).max())


def test_slots_move_while_rows_decode(prepared, expected):
    """Runs of the same rows go on from the run before; after a change they must not."""
    backend = opened(PublishedBackend, prepared("split"))
    firsts = [int(prefill(backend, slot, prompt(n, slot)).argmax()) for slot, n in enumerate(LENGTHS)]
    before, _ = decode(backend, firsts, LENGTHS, steps=3)
    lengths, latest = [n + 3 for n in LENGTHS], [tokens[-1] for tokens in before]
    backend.forward(StepPlan(changes=(Swap(0, 2),)))
    swapped, _ = decode(
        backend, [latest[2], latest[1], latest[0]], [lengths[2], lengths[1], lengths[0]], steps=3
    )
    assert [before[slot][:-1] + swapped[2 - slot] for slot in range(3)] == [each[:7] for each in expected]
    # A copy is as good as what it was made of, and a released slot may be used again.
    lengths = [n + 3 for n in reversed(lengths)]
    backend.forward(StepPlan(changes=(Copy(1, 0, 0, lengths[1]), Release(2, 0))))
    copied, _ = decode(backend, [swapped[1][-1]] * 2, [lengths[1]] * 2, steps=3)
    assert copied[0] == copied[1] == expected[1][6:10]


@pytest.mark.parametrize("layout", ["split", "keeps"])
def test_long_prompts_need_bounded_memory(prepared, expected, layout, monkeypatch):
    """Logits of every token don't fit at once, nor do all rows' keys and values."""
    backend = opened(PublishedBackend, prepared(layout))
    monkeypatch.setattr(published, "LOGIT_BYTES", 4 * 294 * 5)
    monkeypatch.setattr(published, "RUN_BYTES", 25 * 2 * 4 * LAYERS * KV_HEADS * HEAD_DIM)
    assert greedy(backend) == expected


def test_what_was_carried_is_given_back(prepared, expected):
    backend = opened(PublishedBackend, prepared("split"))
    firsts = [int(prefill(backend, slot, prompt(n, slot)).argmax()) for slot, n in enumerate(LENGTHS)]
    begun, _ = decode(backend, firsts, LENGTHS, steps=2)
    backend.trim()
    rest, _ = decode(backend, [tokens[-1] for tokens in begun], [n + 2 for n in LENGTHS], steps=4)
    assert [a[:-1] + b for a, b in zip(begun, rest, strict=True)] == [each[:7] for each in expected]
