"""A choice that goes on elsewhere: wherever it was cut, what comes is what would have come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from diplex.errors import InvalidRequest
from tests.engine_run import TOKENIZER, Run, ids_of, request
from tests.fake_backend import VOCABULARY, FakeBackend, fake_description
from workers.runtime.engine.intake import Closed
from workers.runtime.engine.messages import Admitted, EngineConfig
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import FinishReason, Prior
from workers.runtime.sampling import SamplingParams
from workers.runtime.structured import GrammarCompiler, JsonSchema, Regex
from workers.runtime.tools.definitions import Tool, ToolUse, call_schema

END = TOKENIZER.id_of("<|im_end|>")
HOT = SamplingParams(temperature=1.3, top_p=0.95, seed=7)
PENALISED = replace(HOT, repetition_penalty=1.3, frequency_penalty=0.7, presence_penalty=0.4)
COMPILER = GrammarCompiler(TOKENIZER, VOCABULARY, (END,))
CLOCK = Tool("clock", "", '{"type": "object", "properties": {"zone": {"enum": ["utc", "local"]}}}')
CALLING = ModelText(TOKENIZER, fake_description(chat_template="<tool_call>"))


def rote(*answer):
    """A backend that answers "Hi" with texts, or token ids, by heart."""
    tokens = [token for part in answer for token in (ids_of(part) if isinstance(part, str) else (part,))]
    return FakeBackend(max_length=128, answers={ids_of("Hi"): tokens})


def held(form, **more):
    return replace(request(1, "Hi", **more), grammar=COMPILER.compile(form))


def calling(**more):
    use = ToolUse((CLOCK,), required=True, own_format=True)
    item = request(1, "Hi", sampling=HOT, **more)
    schema = call_schema(use.tools, CALLING.call_form(use), single=use.single)
    grammar = COMPILER.compile(JsonSchema(schema), "tools")
    return replace(item, generation=replace(item.generation, tools=use), grammar=grammar)


def plain():
    return FakeBackend(max_length=128)


CASES = {
    "greedy": (plain, request(1, "Bonjour", max_tokens=14)),
    "choices that are drawn": (plain, request(1, "Hi", sampling=HOT, max_tokens=12, choices=3)),
    "penalties": (plain, request(1, "Hi " * 4, sampling=PENALISED, max_tokens=14, choices=2)),
    "stop string": (lambda: rote("Hello wor", "ld and more"), request(1, stop=("world",), max_tokens=20)),
    "half a stop string": (lambda: rote("one STO", END), request(1, stop=("STOP",), max_tokens=20)),
    "characters of several tokens": (lambda: rote("naïve 漢字 ☃", END), request(1, max_tokens=40)),
    "half a character": (lambda: rote("a", *ids_of("漢")[:-1], END), request(1, max_tokens=40)),
    "fewest tokens": (
        lambda: rote("abc", END, "def", END),
        request(1, min_tokens=6, max_tokens=20, stop=("c",)),
    ),
    "log probabilities": (plain, request(1, "Hi", sampling=HOT, max_tokens=8, logprobs=2)),
    "echo": (plain, request(1, "Bonjour", max_tokens=6, echo=True, choices=2)),
    "regular expression": (plain, held(Regex("[ab]{4}-[cd]{4}"), sampling=HOT, choices=2)),
    "schema": (plain, held(JsonSchema('{"enum": [{"colour": "red"}, {"colour": "blue"}]}'), sampling=HOT)),
    "calls of tools": (plain, calling(max_tokens=60)),
    "the context's end": (lambda: FakeBackend(max_length=24), request(1, "Bonjour")),
}


def engine(backend):
    config = EngineConfig(Path(), slots=4, prefill_chunk=8, shared_prefill_chunk=4)
    return Run(backend, config, text=CALLING)


def relayed(run, choice, count, echo, *, finished=False):
    """What a client has of a choice after so many pieces."""
    pieces = run.pieces(1, choice)[:count]
    return Prior(
        choice,
        tuple(token for piece in pieces for token in piece.token_ids),
        sum(len(piece.text) for piece in pieces) + len(echo),
        finished,
        pieces[-1].finish.completion_tokens if finished else 0,
    )


def told(pieces):
    """All that a reader gets of pieces of a choice; identifiers of calls are chance."""
    return (
        "".join(piece.text for piece in pieces),
        [token for piece in pieces for token in piece.token_ids],
        [logprob for piece in pieces for logprob in piece.logprobs],
        [(call.number, call.name) for piece in pieces for call in piece.calls if call.name],
        "".join(call.arguments for piece in pieces for call in piece.calls),
    )


def ending(piece):
    finish = piece.finish
    return finish.reason, finish.stop_match, finish.prompt_tokens, finish.completion_tokens


@pytest.mark.parametrize("name", CASES)
def test_wherever_it_is_cut_it_goes_on(name):
    backend, item = CASES[name]
    whole = engine(backend())(item)
    echo = next(message.text for message in whole.sent if isinstance(message, Admitted))
    choices = range(item.generation.output.choices)
    for cut in range(1, max(len(whole.pieces(1, choice)) for choice in choices) + 1):
        prior = tuple(relayed(whole, choice, cut, echo) for choice in choices)
        resumed = replace(item, generation=replace(item.generation, prior=prior))
        run = engine(backend())(resumed)
        for choice in choices:
            pieces = whole.pieces(1, choice)
            joined = [*pieces[:cut], *run.pieces(1, choice)]
            assert told(joined) == told(pieces), (cut, choice)
            assert ending(joined[-1]) == ending(pieces[-1]), (cut, choice)
            assert run.pieces(1, choice)[-1].finish.timings.prefill >= 0


def test_a_choice_that_has_ended_is_not_generated_again():
    item = request(1, "Hi", sampling=HOT, max_tokens=6, choices=3)
    whole = engine(plain())(item)
    prior = (relayed(whole, 1, 6, "", finished=True), relayed(whole, 2, 3, ""))
    run = engine(plain())(replace(item, generation=replace(item.generation, prior=prior)))
    assert not run.pieces(1, 1)
    assert run.tokens(1, 0) == whole.tokens(1, 0)
    assert run.tokens(1, 2) == whole.tokens(1, 2)[3:]


def test_when_all_have_ended_it_is_only_admitted():
    item = request(1, "Hi", max_tokens=6)
    prior = (relayed(engine(plain())(item), 0, 6, "", finished=True),)
    run = engine(plain())(replace(item, generation=replace(item.generation, prior=prior)), Closed())
    assert run.kinds(1) == ["Admitted"]


def test_tokens_of_the_past_are_no_cached_prompt_tokens():
    item = request(1, "Bonjour", max_tokens=20)
    whole = engine(plain())(item)
    resumed = replace(item, id=2, generation=replace(item.generation, prior=(relayed(whole, 0, 9, ""),)))
    run = engine(plain())
    run(item, resumed)
    assert run.pieces(2)[-1].finish.cached_tokens <= len(ids_of("Bonjour"))


@pytest.mark.parametrize(
    ("prior", "text"),
    [
        (Prior(0, ids_of("Hello"), 3), "more text than the caller has"),
        (Prior(0, ids_of("Hello world") * 3, 33), "it had ended after 20 of 33 tokens"),
    ],
)
def test_what_cannot_have_been_is_refused(prior, text):
    item = request(1, "Hi", max_tokens=20)
    run = engine(plain())(replace(item, generation=replace(item.generation, prior=(prior,))))
    error = run.refusal(1)
    assert type(error) is InvalidRequest
    assert text in error.message


def test_another_way_through_the_grammar_is_refused():
    item = held(Regex("[ab]{4}"))
    item = replace(item, generation=replace(item.generation, prior=(Prior(0, ids_of("ac"), 2),)))
    run = engine(plain())(item)
    assert run.refusal(1)
    assert FinishReason.END_OF_SEQUENCE not in [piece.finish for piece in run.pieces(1)]
