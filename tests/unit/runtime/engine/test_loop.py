"""The whole engine in one thread, on a backend whose texts show any mistake in slots, moves and lengths."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diplex.errors import InternalError, InvalidRequest, QueueFull
from tests.engine_run import GREEDY, TOKENIZER, Run, ids_of, request
from tests.fake_backend import VOCABULARY, FakeBackend, fake_description
from workers.runtime.engine import loop
from workers.runtime.engine.intake import Arrived, Closed, Unencodable
from workers.runtime.engine.messages import Admitted, Cancel, EngineConfig, Stepped
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import FinishReason, Priority
from workers.runtime.sampling import SamplingParams
from workers.runtime.structured import GrammarCompiler, JsonSchema, Regex
from workers.runtime.tools.definitions import Tool, ToolUse, call_schema

END = TOKENIZER.id_of("<|im_end|>")


def rote(prompt, *answer):
    """A backend that answers a prompt with texts, or token ids, by heart."""
    tokens = [token for part in answer for token in (ids_of(part) if isinstance(part, str) else (part,))]
    return FakeBackend(answers={ids_of(prompt): tokens})


def alone(item):
    return Run(FakeBackend())(item)


def test_one_request():
    run = Run(rote("Hi", "Hello", END))(request(1))
    assert run.sent[0] == Admitted(1, ids_of("Hi"))
    assert run.text_of(1) == "Hello"
    assert run.tokens(1) == list(ids_of("Hello"))
    finish = run.finish(1)
    assert (finish.reason, finish.stop_match) == (FinishReason.END_OF_SEQUENCE, END)
    assert (finish.prompt_tokens, finish.completion_tokens) == (2, 6)
    assert all(piece.finish is None for piece in run.pieces(1)[:-1])


def test_ends_when_the_inbox_is_closed():
    Run(FakeBackend())(Closed())
    run = Run(FakeBackend(), at_step={3: [Closed()]})(request(1))
    assert run.steps == 3


PROMPTS = ("a", "Bonjour", "the model of the assistant", "x" * 21, "12", "to and fro", "é🙂", "ab" * 13)


def test_batch_matches_single():
    requests = [request(number, prompt, max_tokens=12 + number) for number, prompt in enumerate(PROMPTS)]
    together = Run(FakeBackend())(*requests)
    assert max(len(plan.rows) for plan in together.backend.plans) == 4
    for item in requests:
        single = alone(item)
        assert together.text_of(item.id) == single.text_of(item.id)
        assert together.tokens(item.id) == single.tokens(item.id)
        assert together.finish(item.id).reason == single.finish(item.id).reason


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 14),  # the step that it comes in
            st.integers(1, 24),  # tokens of its prompt
            st.integers(1, 12),  # tokens it is to have
            st.none() | st.integers(1, 8),  # steps after which it is cancelled
            st.sampled_from(Priority),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_no_company_changes_a_text(arrivals):
    at_step = {}
    requests = []
    for number, (step, length, most, cancelled, priority) in enumerate(arrivals):
        prompt = "".join(chr(65 + (number * 7 + i) % 26) for i in range(length))
        item = request(number, prompt, max_tokens=most, priority=priority)
        requests.append(item)
        at_step.setdefault(step, []).append(item)
        if cancelled is not None:
            at_step.setdefault(step + cancelled, []).append(Cancel(number))
    # While anything is running there is a next step, so one request lasts for as long as others are to come.
    last = max(at_step)
    at_step.setdefault(0, []).append(request(99, "?", max_tokens=last + 10, priority=Priority.INTERACTIVE))
    run = Run(FakeBackend(), at_step=at_step)
    run(*at_step.pop(0))
    for item in requests:
        expected = alone(item)
        if arrivals[item.id][3] is None:
            assert run.tokens(item.id) == expected.tokens(item.id)
            assert run.text_of(item.id) == expected.text_of(item.id)
            assert run.finish(item.id).reason is FinishReason.MAX_TOKENS
        else:
            got = run.tokens(item.id)
            assert got == expected.tokens(item.id)[: len(got)]
    assert run.loads()[-1] == (0, 0)


def test_a_seed_gives_the_same_text_in_any_company():
    hot = SamplingParams(temperature=2.0, seed=7)
    item = request(1, "Once", sampling=hot, max_tokens=12)
    expected = alone(item).tokens(1)
    others = [
        request(number, prompt, sampling=SamplingParams(temperature=2.0, seed=number), max_tokens=5 + number)
        for number, prompt in enumerate(PROMPTS[:5], start=2)
    ]
    assert Run(FakeBackend())(*others, item).tokens(1) == expected
    assert Run(FakeBackend(), at_step={4: [item]})(*others).tokens(1) == expected
    other = request(1, "Once", sampling=SamplingParams(temperature=2.0, seed=8), max_tokens=12)
    assert alone(other).tokens(1) != expected


def test_penalties_see_the_sequences_own_tokens():
    penalised = SamplingParams(temperature=0, frequency_penalty=2.0, repetition_penalty=10.0)
    item = request(1, "ab", sampling=penalised, max_tokens=20)
    run = Run(FakeBackend())(request(2, "ab", max_tokens=20), item, request(3, "ab", max_tokens=20))
    assert run.tokens(1) == alone(item).tokens(1)
    assert run.tokens(2) == run.tokens(3)


# ------------------------------------------------------------------------------------------ queue


def test_the_queue_holds_so_many_beside_the_slots():
    config = EngineConfig(Path(), slots=2, max_queue=1)
    run = Run(FakeBackend(), config)(*(request(number, max_tokens=2) for number in range(4)))
    assert [run.kinds(number)[0] for number in range(4)] == ["Admitted"] * 3 + ["Refused"]
    error = run.refusal(3)
    assert isinstance(error, QueueFull)
    assert error.metadata == {"limit": "1"}
    assert error.retry_after is not None


def test_without_a_queue_the_slots_can_still_be_used():
    config = EngineConfig(Path(), slots=2, max_queue=0)
    run = Run(FakeBackend(), config, at_step={2: [request(3, max_tokens=2)]})
    run(request(1, max_tokens=8), request(2, max_tokens=8))
    assert run.kinds(1) == run.kinds(2) == ["Admitted"]
    assert isinstance(run.refusal(3), QueueFull)
    assert run.finish(1).reason is FinishReason.MAX_TOKENS


def test_a_place_that_was_given_up_can_be_taken():
    config = EngineConfig(Path(), slots=1, max_queue=0)
    run = Run(FakeBackend(), config, at_step={3: [Cancel(1), request(2, max_tokens=2)]})(request(1))
    assert run.kinds(2) == ["Admitted"]


def test_more_urgent_requests_leave_the_queue_first():
    config = EngineConfig(Path(), slots=1)
    run = Run(FakeBackend(), config)(
        request(1, max_tokens=1, priority=Priority.BATCH),
        request(2, max_tokens=1),
        request(3, max_tokens=1, priority=Priority.INTERACTIVE),
    )
    assert [piece.id for m in run.sent if isinstance(m, Stepped) for piece in m.pieces] == [3, 2, 1]


def test_what_cannot_be_encoded_is_refused():
    error = InvalidRequest("no")
    run = Run(FakeBackend())(Unencodable(1, error), request(2, max_tokens=1))
    assert run.refusal(1) is error
    assert run.finish(2).reason is FinishReason.MAX_TOKENS


# ----------------------------------------------------------------------------------- cancellation


def test_cancelled_while_it_is_being_encoded():
    run = Run(FakeBackend())
    run.open |= {1, 2, 3}
    encoded = request(1)
    items = [Arrived(1), Arrived(2), Cancel(1), Cancel(2), encoded, Unencodable(2, InvalidRequest("no"))]
    for item in items:
        run.inbox.put(item)
    run.open -= {1, 2}
    run(request(3, max_tokens=1))
    assert run.kinds(1) == run.kinds(2) == []
    assert run.pieces(1) == []


def test_cancelled_while_it_waits():
    config = EngineConfig(Path(), slots=1)
    run = Run(FakeBackend(), config, at_step={2: [Cancel(2)]})
    run(request(1, max_tokens=4), request(2), request(3, max_tokens=1))
    assert run.pieces(2) == []
    assert run.finish(3).reason is FinishReason.MAX_TOKENS
    assert run.loads() == [(1, 2), (1, 2), (1, 1), (0, 1), (0, 0)]


def test_cancelled_while_it_is_prefilled():
    run = Run(FakeBackend(), at_step={2: [Cancel(1)]})(request(1, "abcdefgh" * 5))
    assert run.steps == 2
    assert run.pieces(1) == []
    assert run.loads()[-1] == (0, 0)


def test_cancelled_while_it_is_decoded():
    run = Run(FakeBackend(), at_step={5: [Cancel(1)]})(request(1), request(2, max_tokens=9))
    # The cancellation comes in during the fifth step; the sixth is without it.
    assert len(run.tokens(1)) == 5
    assert [len(plan.rows) for plan in run.backend.plans[:6]] == [0, 2, 2, 2, 2, 1]
    assert run.loads()[5] == (1, 0)


def test_cancelling_the_only_request_is_reported_at_once():
    run = Run(FakeBackend(), at_step={3: [Cancel(1)]})(request(1))
    assert run.steps == 3
    assert run.loads()[-1] == (0, 0)


def test_cancelling_the_unknown_and_the_finished_does_nothing():
    run = Run(FakeBackend(), at_step={4: [Cancel(1), Cancel(77)]})
    run(request(1, max_tokens=1), request(2, max_tokens=6))
    assert len(run.tokens(2)) == 6


# ---------------------------------------------------------------------------------------- endings


def test_max_tokens():
    run = Run(rote("Hi", "Hello there"))(request(1, max_tokens=5))
    assert run.text_of(1) == "Hello"
    assert run.finish(1).reason is FinishReason.MAX_TOKENS
    assert run.finish(1).completion_tokens == 5


def test_a_full_context():
    run = Run(FakeBackend(max_length=12))(request(1, "abcdefgh"))
    assert run.finish(1).reason is FinishReason.CONTEXT_LENGTH
    assert run.finish(1).completion_tokens == 4


def test_a_time_limit_ends_with_what_there_is():
    run = Run(rote("Hi", "One STOp"))(request(1, stop=("STOP",), seconds=7.0), request(2, max_tokens=12))
    assert run.text_of(1) == "One STO"
    assert (run.finish(1).reason, run.finish(1).completion_tokens) == (FinishReason.TIME_LIMIT, 7)
    assert run.finish(2).reason is FinishReason.MAX_TOKENS
    assert run.loads()[-1] == (0, 0)


def test_a_time_limit_holds_for_all_choices_and_while_waiting():
    run = Run(FakeBackend(), config=EngineConfig(Path(), slots=2, prefill_chunk=8, shared_prefill_chunk=4))
    run(request(1, choices=2, seconds=5.0), request(2, seconds=3.0), request(3, max_tokens=2))
    assert {run.pieces(1, choice)[-1].finish.reason for choice in range(2)} == {FinishReason.TIME_LIMIT}
    assert (run.finish(2).reason, run.tokens(2)) == (FinishReason.TIME_LIMIT, [])
    assert len(run.tokens(3)) == 2


def test_a_stop_string_over_several_tokens():
    run = Run(rote("Hi", "One. Two. STOP three"))(request(1, stop=("STOP",)))
    assert run.text_of(1) == "One. Two. "
    assert (run.finish(1).reason, run.finish(1).stop_match) == (FinishReason.STOP, "STOP")
    # It ends with the step in which the stop string is whole.
    assert run.steps == len(ids_of("One. Two. STOP"))
    assert run.loads()[-1] == (0, 0)


def test_text_that_could_become_a_stop_is_held_and_comes_at_the_end():
    run = Run(rote("Hi", "One STO"))(request(1, stop=("STOP",), max_tokens=7))
    pieces = run.pieces(1)
    assert [piece.text for piece in pieces] == ["O", "n", "e", " ", "", "", "STO"]
    assert pieces[-1].finish.reason is FinishReason.MAX_TOKENS
    run = Run(rote("Hi", "One STO", END))(request(1, stop=("STOP",)))
    assert run.text_of(1) == "One STO"
    assert run.finish(1).reason is FinishReason.END_OF_SEQUENCE


def test_a_stop_token():
    stop = ids_of("!")[0]
    run = Run(rote("Hi", "Well!"))(request(1, stop_token_ids=(stop,)))
    assert run.text_of(1) == "Well"
    assert run.tokens(1) == list(ids_of("Well"))
    assert (run.finish(1).reason, run.finish(1).stop_match) == (FinishReason.STOP, stop)
    assert run.finish(1).completion_tokens == 5


def test_half_a_character_is_never_said():
    euro = ids_of("€")
    assert len(euro) == 3
    run = Run(rote("Hi", "1", *euro, END))(request(1))
    assert [piece.text for piece in run.pieces(1)] == ["1", "", "", "€", ""]
    run = Run(rote("Hi", "1", *euro))(request(1, max_tokens=3))
    assert run.text_of(1) == "1\ufffd"


def test_a_stop_string_that_the_last_token_completes():
    run = Run(rote("Hi", "abc"))(request(1, stop=("c",), max_tokens=3))
    assert (run.text_of(1), run.finish(1).reason) == ("ab", FinishReason.STOP)


# ----------------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("at", ["the first token", "a later token"])
def test_broken_logits_end_that_sequence_only(at):
    said = "" if at == "the first token" else "He"
    held = ids_of("Hi") + ids_of(said)
    backend = FakeBackend(
        answers={ids_of("Hi"): ids_of("Hello")},
        broken_at=frozenset({held}),
    )
    others = [request(number, prompt, max_tokens=8) for number, prompt in ((1, "abc"), (3, "xyz"))]
    run = Run(backend)(others[0], request(2), others[1])
    assert isinstance(run.refusal(2), InternalError)
    assert run.text_of(2) == said
    for item in others:
        assert run.tokens(item.id) == alone(item).tokens(item.id)
    assert run.loads()[-1] == (0, 0)


def test_broken_logits_of_the_only_sequence():
    run = Run(FakeBackend(broken_at=frozenset({ids_of("Hi")})))(request(1))
    assert isinstance(run.refusal(1), InternalError)
    assert run.loads()[-1] == (0, 0)


def test_absurd_penalties_harm_nobody():
    absurd = SamplingParams(temperature=1.1e-5, repetition_penalty=1e-45, top_p=0.5, seed=1)
    other = request(2, "abc", max_tokens=8)
    run = Run(FakeBackend())(request(1, sampling=absurd, max_tokens=8), other)
    assert len(run.tokens(1)) == 8
    assert run.tokens(2) == alone(other).tokens(2)


# ---------------------------------------------------------------------------------------- reports


def test_loads_tell_slots_and_queue():
    config = EngineConfig(Path(), slots=2)
    run = Run(FakeBackend(), config)(*(request(number, max_tokens=2) for number in (1, 2, 3)))
    assert run.loads() == [(2, 1), (0, 1), (1, 0), (0, 0)]


def test_rates_are_of_work_and_stay_when_it_is_over():
    run = Run(FakeBackend())(request(1, max_tokens=4))
    last = [message.load for message in run.sent if isinstance(message, Stepped)][-1]
    assert last.prefill_rate > 0
    assert last.decode_rate > 0


def test_timings():
    run = Run(FakeBackend())(request(1, "x" * 20, max_tokens=4, arrived_at=-3.0))
    chunks = [len(plan.chunks) for plan in run.backend.plans]
    assert chunks == [1, 1, 1, 0, 0, 0]
    timings = run.finish(1).timings
    assert (timings.queue, timings.prefill, timings.decode) == (3.0, 3.0, 3.0)


def test_pieces_of_one_step_travel_together():
    run = Run(FakeBackend())(*(request(number, max_tokens=3) for number in (1, 2, 3)))
    steps = [[piece.id for piece in m.pieces] for m in run.sent if isinstance(m, Stepped)]
    assert steps == [[1, 2, 3]] * 3


def test_a_step_admits_what_came_in_before_it():
    config = EngineConfig(Path(), slots=4, max_stall=1e3)
    other = request(2, "wxyz", max_tokens=2)
    run = Run(FakeBackend(), config, at_step={2: [other]})(request(1, max_tokens=6))
    plans = run.backend.plans
    assert [chunk.sequence for chunk in plans[2].chunks] == [2]
    assert all(later.rows[0].past == earlier.rows[0].past + 1 for earlier, later in pairwise(plans[1:]))


# -------------------------------------------------------------------------------------- idle time


def test_what_is_not_needed_is_given_back_in_idle_time(monkeypatch):
    monkeypatch.setattr(loop, "_TRIM_SECONDS", 0.001)
    config = EngineConfig(Path(), slots=2, cache_idle_seconds=0.001)
    run = Run(FakeBackend(), config)
    forward, empty = run.backend.forward, threading.Event()

    def watched(plan):
        result = forward(plan)
        if not run.open and not any(run.backend.held(row) for row in range(config.rows)):
            empty.set()
        return result

    run.backend.forward = watched
    run.at_step[10**6] = []  # so that the inbox stays open
    run.put(request(1, "abcdefgh" * 4, max_tokens=3))
    running = threading.Thread(target=run.engine.run)
    running.start()
    try:
        assert empty.wait(10)
        assert run.backend.trims
    finally:
        run.inbox.put(Closed())
        running.join()


# ----------------------------------------------------------------------------------------- choices


def test_choices_are_those_that_seeds_of_their_own_give():
    hot = SamplingParams(temperature=1.0, seed=3)
    run = Run(FakeBackend())(
        request(1, "Hello", sampling=hot, max_tokens=6, choices=3),
        request(2, "World", sampling=hot, max_tokens=6),
    )
    texts = [run.text_of(1, choice) for choice in range(3)]
    assert len(set(texts)) == 3
    assert texts[0] == alone(request(1, "Hello", sampling=hot, max_tokens=6)).text_of(1)
    again = Run(FakeBackend(), limits=None)(request(1, "Hello", sampling=hot, max_tokens=6, choices=3))
    assert [again.text_of(1, choice) for choice in range(3)] == texts
    for choice in range(3):
        assert run.pieces(1, choice)[-1].finish.completion_tokens == 6


def test_choices_share_one_prefill():
    run = Run(FakeBackend(slots=8))
    run(request(1, "A prompt of many tokens to share", max_tokens=3, choices=4))
    computed = sum(len(chunk.tokens) for plan in run.backend.plans for chunk in plan.chunks)
    assert computed < 2 * len(ids_of("A prompt of many tokens to share"))
    assert len({run.text_of(1, choice) for choice in range(4)}) == 1  # greedy


def test_a_request_is_cancelled_with_all_its_choices():
    run = Run(FakeBackend(), at_step={3: [Cancel(1)]})
    run(request(1, "Hello", max_tokens=40, choices=3), request(2, "World", max_tokens=8))
    assert len(run.tokens(2)) == 8
    assert run.engine._choices == {}
    assert run.loads()[-1] == (0, 0)


def test_broken_logits_of_one_choice_refuse_the_request_once():
    broken = (*ids_of("Hi"),)
    run = Run(FakeBackend(broken_at=frozenset({broken})))
    run(request(1, "Hi", max_tokens=4, choices=3), request(2, "World", max_tokens=4))
    assert isinstance(run.refusal(1), InternalError)
    assert len(run.tokens(2)) == 4


def test_more_choices_than_the_queue_holds_are_refused_while_others_run():
    run = Run(FakeBackend(), config=EngineConfig(Path(), slots=2, max_queue=1))
    run(request(1, "Hi", max_tokens=4), request(2, "Ho", max_tokens=4, choices=3))
    assert isinstance(run.refusal(2), QueueFull)
    assert len(Run(FakeBackend(), config=run.config)(request(1, max_tokens=2, choices=5)).tokens(1, 4)) == 2


# ---------------------------------------------------------------------------------- what is told


def test_log_probabilities_are_the_models_own():
    biased = SamplingParams(temperature=0, logit_bias=((40, 100.0),))
    for sampling in (GREEDY, biased):
        run = Run(FakeBackend())(request(1, "Hi", sampling=sampling, max_tokens=3, logprobs=2))
        told = [logprob for piece in run.pieces(1) for logprob in piece.logprobs]
        held = list(ids_of("Hi"))
        for token, logprob in zip(run.tokens(1), told, strict=True):
            backend = FakeBackend()
            backend._memory[0, : len(held)] = held
            logits = backend._logits(0, len(held)).astype(np.float64)
            expected = logits - np.log(np.exp(logits).sum())
            assert logprob.token_id == token
            assert logprob.logprob == pytest.approx(expected[token], abs=1e-5)
            best = np.argsort(-expected)[:2]
            assert [(t.token_id, pytest.approx(expected[t.token_id], abs=1e-5)) for t in logprob.top] == [
                (token_id, t.logprob) for token_id, t in zip(best, logprob.top, strict=True)
            ]
            held.append(token)
    assert run.tokens(1) == [40, 40, 40]


def test_the_input_is_echoed():
    run = Run(FakeBackend())(request(1, "Hello", max_tokens=2, echo=True), request(2, max_tokens=2))
    told = {m.id: m.text for m in run.sent if isinstance(m, Admitted)}
    assert told == {1: "Hello", 2: ""}


def test_nothing_ends_before_the_fewest_tokens():
    run = Run(rote("Hi", END))(request(1, "Hi", max_tokens=8, min_tokens=4))
    assert len(run.tokens(1)) >= 4
    assert END not in run.tokens(1)


# ----------------------------------------------------------------------------------------- grammars

COMPILER = GrammarCompiler(TOKENIZER, VOCABULARY, (END,))
HOT = SamplingParams(temperature=1.0, seed=3)
POINT = '{"type": "object", "properties": {"x": {"enum": [1, 22]}, "long name": {"type": "boolean"}}, '
POINT += '"required": ["x", "long name"], "additionalProperties": false}'


def held(number, form, prompt="Hi", **more):
    """A request whose output is held to a format."""
    item = request(number, prompt, sampling=more.pop("sampling", HOT), **more)
    output = dataclasses.replace(item.generation.output, format=form)
    generation = dataclasses.replace(item.generation, output=output)
    return dataclasses.replace(item, generation=generation, grammar=COMPILER.compile(form))


def test_an_output_is_held_to_a_schema():
    run = Run(FakeBackend(max_length=128))(*(held(n, JsonSchema(POINT), "Hi" * n) for n in range(1, 4)))
    for number in range(1, 4):
        point = json.loads(run.text_of(number))
        assert point.keys() == {"x", "long name"}
        assert run.finish(number).reason is FinishReason.END_OF_SEQUENCE
        assert run.finish(number).completion_tokens == len(run.tokens(number))


def test_company_changes_no_text_that_is_held():
    """Alone, forced tokens are taken in by one run; in a batch one after the other."""
    wanted = [held(n, JsonSchema(POINT), "Hello"[:n]) for n in range(1, 5)]
    together = Run(FakeBackend(max_length=128))(*wanted)
    for item in wanted:
        single = Run(FakeBackend(max_length=128))(item)
        assert single.tokens(item.id) == together.tokens(item.id)
        assert len(single.backend.plans) < len(single.tokens(item.id))


def test_choices_are_held_each_for_itself():
    run = Run(FakeBackend())(held(1, Regex("[ab]{6}"), choices=4))
    texts = [run.text_of(1, choice) for choice in range(4)]
    assert all(re.fullmatch("[ab]{6}", text) for text in texts)
    assert len(set(texts)) > 1


def test_the_limit_cuts_what_is_held():
    run = Run(FakeBackend(max_length=128))(held(1, JsonSchema(POINT), max_tokens=5))
    assert run.finish(1).reason is FinishReason.MAX_TOKENS
    assert len(run.tokens(1)) == 5


def test_the_fewest_tokens_give_way_to_a_grammar_that_is_over():
    run = Run(FakeBackend())(held(1, Regex("ab"), min_tokens=9, max_tokens=12))
    assert run.text_of(1) == "ab"


def test_log_probabilities_of_what_is_held():
    run = Run(FakeBackend())(held(1, Regex("[ab]{3}"), logprobs=1))
    told = [logprob for piece in run.pieces(1) for logprob in piece.logprobs]
    assert b"".join(logprob.token for logprob in told).decode() == run.text_of(1)


def test_broken_logits_of_another_request_change_nothing_for_what_is_held():
    wanted = held(1, Regex("[ab]{6}"), logprobs=2)
    alone_told = [piece.logprobs for piece in Run(FakeBackend())(wanted).pieces(1)]
    backend = FakeBackend(broken_at=frozenset({ids_of("World")}))
    run = Run(backend)(wanted, request(2, "World", max_tokens=4))
    assert isinstance(run.refusal(2), InternalError)
    assert [piece.logprobs for piece in run.pieces(1)] == alone_told


# -------------------------------------------------------------------------------------------- tools

ADD = Tool(
    "add",
    "",
    '{"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], '
    '"additionalProperties": false}',
)
CLOCK = Tool("clock", "", '{"type": "object", "additionalProperties": false}')


TEMPLATES = {
    "hermes": "<tool_call>",
    "llama": '{{ "<|python_tag|>" }} "parameters": ',
    "mistral": "[TOOL_CALLS]",
    "none": "",
}
TEXTS = {
    name: ModelText(TOKENIZER, fake_description(chat_template=template))
    for name, template in TEMPLATES.items()
}


@dataclasses.dataclass
class Writer(FakeBackend):
    """Writes a text, as far as what is chosen stays with it, and ends."""

    script: str = ""

    def _logits(self, slot: int, length: int) -> np.ndarray:
        logits, held = super()._logits(slot, length), self._memory[slot, :length].tolist()
        written = TOKENIZER.decode(held[len(ids_of("Hi")) :], skip_special_tokens=False)
        if self.script.startswith(written):
            rest = self.script[len(written) :]
            logits[ids_of(rest)[0] if rest else END] = 100.0
        return logits


def calling(number, use, prompt="Hi", text=TEXTS["hermes"], **more):
    """A request that may call tools."""
    item = request(number, prompt, sampling=more.pop("sampling", HOT), **more)
    generation = dataclasses.replace(item.generation, tools=use)
    schema = call_schema(use.tools, text.call_form(use), single=use.single)
    grammar = COMPILER.compile(JsonSchema(schema), "tools")
    return dataclasses.replace(item, generation=generation, grammar=grammar)


def calls_of(run, number, choice=0):
    """The calls that a choice made: name, arguments, and identifier. The first piece of each has the name."""
    calls = []
    for piece in (call for told in run.pieces(number, choice) for call in told.calls):
        assert bool(piece.name) == bool(piece.id) == (piece.number == len(calls))
        if piece.name:
            calls.append([piece.name, "", piece.id])
        calls[-1][1] += piece.arguments
    return [(name, json.loads(arguments), identifier) for name, arguments, identifier in calls]


def call_of(run, number, choice=0):
    """The only call that a choice made."""
    (call,) = calls_of(run, number, choice)
    return call


ADD_1, ADD_2, NOW = ("add", {"a": 1}), ("add", {"a": 2}), ("clock", {})
SCRIPTS = {
    "hermes": (
        "Let me see. <tool_call>\n{}\n</tool_call>\n<tool_call>\n{}\n</tool_call>",
        "Let me see. ",
        "arguments",
    ),
    "hermes, followed by text": (
        "<tool_call>\n{}\n</tool_call>\n\n<tool_call>\n{}\n</tool_call> There.",
        "There.",
        "arguments",
    ),
    "mistral": ("So: [TOOL_CALLS][{}, {}]", "So: ", "arguments"),
    "llama": ("{}", "", "parameters"),
    "llama, tagged": ("Well. <|python_tag|>{}", "Well. ", "parameters"),
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("single", [False, True])
def test_calls_in_all_forms_are_read_and_held(name, single):
    script, told, key = SCRIPTS[name]
    made = [ADD_1, NOW] if script.count("{}") == 2 else [ADD_2]
    written = [json.dumps({"name": tool, key: arguments}) for tool, arguments in made]
    text = TEXTS[name.partition(",")[0]]
    backend = Writer(slots=16, max_length=300, script=script.format(*written))
    use = ToolUse((ADD, CLOCK), single=single)
    run = Run(backend, text=text)(calling(1, use, text=text, sampling=GREEDY, max_tokens=250))
    made = made[:1] if single else made
    calls = calls_of(run, 1)
    assert [call[:2] for call in calls] == made
    assert len({call[2] for call in calls}) == len(made)
    assert run.text_of(1) == ("" if single and told == "There." else told)
    assert run.finish(1).reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("single", [False, True])
def test_what_must_be_called_is_called_in_all_forms(name, single):
    text = TEXTS[name]
    use = ToolUse((ADD, CLOCK), required=True, own_format=name != "none", single=single)
    run = Run(FakeBackend(slots=16, max_length=400), text=text)(
        *(calling(n, use, "Hi" * n, text=text, choices=2, max_tokens=100) for n in (1, 2))
    )
    for number, choice in ((n, c) for n in (1, 2) for c in (0, 1)):
        reason = run.pieces(number, choice)[-1].finish.reason
        if reason is FinishReason.MAX_TOKENS and not single:
            continue  # It went on and on.
        calls = calls_of(run, number, choice)
        made = {(tool, *arguments.values()) for tool, arguments, _ in calls}
        assert made <= {("clock",), ("add", 1), ("add", 2)}
        if single or name == "llama":
            assert len(calls) == 1
            assert reason is FinishReason.TOOL_CALLS


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("llama", '{"names": ["Eve"]}'),
        ("llama", '{"name'),
        ("llama", "{ }"),
        ("hermes", '{"name": "clock", "arguments": {}}'),
        ("mistral", "[TOOL_CALL"),
    ],
)
def test_what_only_looks_like_a_call_is_text(name, script):
    text = TEXTS[name]
    backend = Writer(slots=16, max_length=300, script=script)
    run = Run(backend, text=text)(calling(1, ToolUse((ADD, CLOCK)), text=text, sampling=GREEDY))
    assert run.text_of(1) == script
    assert run.finish(1).reason is FinishReason.END_OF_SEQUENCE


@pytest.mark.parametrize("own_format", [True, False])
def test_a_required_call_is_made_at_once(own_format):
    use = ToolUse((ADD, CLOCK), required=True, own_format=own_format, single=True)
    run = Run(FakeBackend(slots=16, max_length=160), text=TEXTS["hermes"])(
        *(calling(n, use, "Hi" * n, choices=2) for n in (1, 2))
    )
    calls = [call_of(run, number, choice) for number in (1, 2) for choice in (0, 1)]
    assert all(
        (name == "clock" and not arguments) or arguments["a"] in (1, 2) for name, arguments, _ in calls
    )
    assert len({identifier for *_, identifier in calls}) == 4
    assert run.text_of(1) == ""
    assert run.finish(1).reason is FinishReason.TOOL_CALLS


def test_a_call_may_follow_text_and_is_held_to_its_form_from_there():
    backend = rote("Hi", "Let me see. <tool_call>\n", "nonsense that the grammar forbids")
    backend.max_length = 160
    backend.__post_init__()
    use = ToolUse((ADD,), single=True)
    run = Run(backend, text=TEXTS["hermes"])(calling(1, use, sampling=GREEDY))
    assert run.text_of(1) == "Let me see. "
    assert call_of(run, 1)[0] == "add"
    assert run.finish(1).reason is FinishReason.TOOL_CALLS


def test_no_call_is_made_where_none_begins():
    run = Run(rote("Hi", "No <tool_cal", END), text=TEXTS["hermes"])(
        calling(1, ToolUse((ADD,)), sampling=GREEDY)
    )
    assert run.text_of(1) == "No <tool_cal"
    assert run.finish(1).reason is FinishReason.END_OF_SEQUENCE
