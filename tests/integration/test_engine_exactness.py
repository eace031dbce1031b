"""A real model in full precision: whatever the scheduler does, a sequence's tokens stay the same.

Each test shows first that what it is about took place, then that the tokens are those of a plain run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine_run import GREEDY, Recorder, Run, Tries
from tests.fixtures.tiny_llama import LAYERS
from workers.onnx_worker.backend import OnnxBackend
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.engine.intake import Encoded
from workers.runtime.engine.memory import engine_limits
from workers.runtime.engine.messages import Cancel, EngineConfig
from workers.runtime.engine.model_text import ModelText
from workers.runtime.engine.plan import Copy, Swap
from workers.runtime.generation import Generation, Output, Stopping, TokenIds
from workers.runtime.sampling import SamplingParams
from workers.runtime.text.tokenizer import Tokenizer

SYSTEM = "user and assistant of the model is the assistant of a user and so on. " * 3
PROMPTS = ("a", SYSTEM + "Who?", "The model", SYSTEM + "Is it?", "0123456789" * 4, SYSTEM + "To be", "!")
HOT = SamplingParams(temperature=1.2, top_p=0.95, seed=5)


@pytest.fixture(scope="module")
def make(tiny_fp32: Path):
    """Makes engines on the tiny model."""
    description = ModelDescription.load(tiny_fp32)
    text = ModelText(Tokenizer.from_file(tiny_fp32 / TOKENIZER_FILE), description)

    def made(*, at_step=None, speculation=None, kv_tokens=None, **settings):
        defaults = {"slots": 4, "threads": 1, "prefix_cache_mib": 0}
        config = EngineConfig(tiny_fp32, **defaults | settings)
        backend = Recorder(OnnxBackend(description, config))
        limits = engine_limits(config, description, backend.max_length, backend.stages)
        if kv_tokens:
            limits = replace(limits, kv_tokens=kv_tokens)
        run = Run(backend, config, at_step or {}, limits=limits, text=text)
        run.engine._speculation = speculation
        return run

    return made


def request(number, prompt, text, sampling=GREEDY, *, most=30, choices=1, **stopping):
    ids = text.encode(TokenIds(tuple(text.tokenizer.encode(prompt))))
    generation = Generation(
        TokenIds(ids), sampling, Stopping(max_tokens=most, **stopping), output=Output(choices)
    )
    return Encoded(number, generation, ids, 0.0)


@pytest.fixture(scope="module")
def requests(make):
    text = make().text
    return [
        request(number, prompt, text, HOT if number % 3 == 1 else GREEDY, most=40 + 9 * (number % 4))
        for number, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def plain(make, requests):
    """What each request gives alone, on a cold engine."""
    outputs = {}
    for item in requests:
        run = make()(item)
        assert not any(plan.changes for plan in run.backend.plans if plan.rows)
        outputs[item.id] = (run.tokens(item.id), run.text_of(item.id))
    assert len({text for _, text in outputs.values()}) == len(PROMPTS)
    return outputs


def changes(run, kind):
    return [change for plan in run.backend.plans for change in plan.changes if isinstance(change, kind)]


def assert_as_plain(run, plain, requests):
    for item in requests:
        assert (run.tokens(item.id), run.text_of(item.id)) == plain[item.id], item.id


def test_batched_equals_single(make, requests, plain):
    run = make(slots=8)(*requests)
    assert max(len(plan.rows) for plan in run.backend.plans) == len(PROMPTS)
    assert_as_plain(run, plain, requests)


def test_chunked_equals_whole(make, requests, plain):
    run = make(prefill_chunk=7, shared_prefill_chunk=3)(*requests)
    chunks = [chunk for plan in run.backend.plans for chunk in plan.complete]
    assert max(len(chunk.tokens) for chunk in chunks) <= 7
    assert len(chunks) > 50
    assert_as_plain(run, plain, requests)


def test_staged_equals_whole(make, requests, plain):
    """Nothing fits beside the stream that runs, so that all prompts go through the model stage by stage."""
    run = make(max_stall=0.0, slots=8, at_step={3: requests})(request(100, "x", make().text, most=400))
    staged = [plan.staged for plan in run.backend.plans if plan.staged]
    assert {piece.of for piece in staged} == {LAYERS}
    assert sum(piece.first > 0 and bool(piece.chunk.start) for piece in staged) > 50
    assert_as_plain(run, plain, requests)


def test_a_seed_gives_the_same_choices_among_strangers_and_after_a_restart(make):
    text = make().text
    asked = request(1, "The model", text, HOT, most=40, choices=3)
    strangers = [
        request(100 + i, "Stranger " * (1 + i % 9), text, replace(HOT, seed=i), most=30 + i)
        for i in range(32)
    ]
    runs = [
        make(slots=4)(asked),
        make(slots=40)(*strangers, asked),
        make(slots=6, prefix_cache_mib=8, max_stall=0.1, at_step={9: [asked]})(*strangers),
    ]
    alone, *others = ([run.tokens(1, choice) for choice in range(3)] for run in runs)
    assert len({tuple(tokens) for tokens in alone}) == 3
    assert others == [alone, alone]


def test_moved_equals_not_moved(make, requests, plain):
    """Sequences leave from low rows all the time, so that others move into theirs."""
    gone = [request(100 + i, "Gone " * (i + 2), make().text, most=200) for i in range(3)]
    at_step = {6 + 5 * i: [Cancel(item.id)] for i, item in enumerate(gone)}
    run = make(at_step=at_step, slots=5)(*gone, *requests)
    assert len(changes(run, Swap)) >= 3
    assert_as_plain(run, plain, requests)


def test_cached_prefix_equals_cold(make, requests, plain):
    first = request(100, SYSTEM, make().text, most=1)
    at_step = {step: [item] for step, item in zip(range(4, 100, 90), requests[1:4:2], strict=False)}
    run = make(prefix_cache_mib=8, at_step=at_step)(first, request(101, "x", make().text, most=300))
    served = requests[1:4:2]
    assert [run.finish(item.id).cached_tokens for item in served] == [
        len(run.text.tokenizer.encode(SYSTEM))
    ] * 2
    assert_as_plain(run, plain, served)


def test_the_same_prompt_again_equals_cold(make, requests, plain):
    again = [Encoded(item.id + 50, item.generation, item.prompt_ids, 0.0) for item in requests]
    run = make(prefix_cache_mib=8, slots=1, cache_slots=9)(*requests, *again)
    for item in again:
        assert (run.tokens(item.id), run.text_of(item.id)) == plain[item.id - 50]
        long_enough = len(item.prompt_ids) > 16
        assert run.finish(item.id).cached_tokens == (len(item.prompt_ids) - 1) * long_enough


def test_copied_prefix_equals_cold(make, requests, plain):
    run = make(prefix_cache_mib=8, slots=8, prefill_chunk=16)(*requests)
    assert changes(run, Copy)
    shared = len(run.text.tokenizer.encode(SYSTEM))
    cached = sorted(run.finish(item.id).cached_tokens for item in requests)
    assert cached == [0] * 5 + [shared] * 2
    assert_as_plain(run, plain, requests)


def test_preempted_equals_not_preempted(make, requests, plain):
    for cache in (0, 8):
        run = make(slots=7, kv_tokens=512, prefix_cache_mib=cache, max_stall=1e3)(
            *requests, *(request(100 + i, f"{i}" * 40, make().text, most=120) for i in range(3))
        )
        begun = [chunk.sequence for plan in run.backend.plans for chunk in plan.complete if chunk.last]
        assert len(begun) > len(set(begun))
        assert_as_plain(run, plain, requests)


def test_speculative_equals_plain(make, requests, plain):
    accepted = 0
    for item in requests:
        run = make(speculation=Tries())(item)
        assert_as_plain(run, plain, [item])
        accepted += run.finish(item.id).speculated_tokens
        steps = sum(bool(plan.rows) for plan in run.backend.plans)
        assert run.finish(item.id).completion_tokens == run.finish(item.id).speculated_tokens + steps + (
            len(item.prompt_ids) > 1
        )
    assert accepted > 0


@pytest.mark.parametrize("most", [1, 3])
def test_speculative_in_a_batch_equals_plain(make, requests, plain, most):
    run = make(speculation=Tries(most), slots=len(requests))(*requests)
    assert_as_plain(run, plain, requests)
    several = [plan for plan in run.backend.plans if sum(bool(row.drafts) for row in plan.rows) > 1]
    assert several
    assert any(len({len(row.drafts) for row in plan.rows}) > 1 for plan in several)


def test_speculation_stops_where_plain_decoding_does(make):
    """At every length, and at stop strings that begin and end anywhere."""
    text = make().text
    repetitive = "the model is the model is the model is the"
    whole = make()(request(1, repetitive, text, most=60))
    said = whole.text_of(1)
    for most in range(1, 30):
        item = request(1, repetitive, text, most=most)
        run = make(speculation=Tries())(item)
        assert run.tokens(1) == whole.tokens(1)[:most]
    for start in range(2, 24, 3):
        stop = said[start : start + 3]
        item = request(1, repetitive, text, most=60, stop=(stop,))
        expected, run = make()(item), make(speculation=Tries())(item)
        assert run.tokens(1) == expected.tokens(1)
        assert run.text_of(1) == expected.text_of(1)
        assert run.finish(1).completion_tokens == expected.finish(1).completion_tokens
        assert run.finish(1).stop_match == stop
    stop_token = whole.tokens(1)[17]
    item = request(1, repetitive, text, most=60, stop_token_ids=(stop_token,))
    expected, run = make()(item), make(speculation=Tries())(item)
    assert run.tokens(1) == expected.tokens(1)
    assert run.finish(1).completion_tokens == expected.finish(1).completion_tokens
