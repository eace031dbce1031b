"""The worker's gRPC face over a real socket, with a real engine process behind it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import threading
from contextlib import asynccontextmanager

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diplex import errors, status
from diplex.serving import Server, ServerConfig
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway.assembly import Assembly
from tests.fake_backend import byte_tokenizer
from tests.integration.conftest import SLOTS
from tests.worker_events import Events
from workers.runtime.servicer import WorkerServicer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = worker_pb2.DESCRIPTOR.services_by_name["WorkerService"]
GREEDY = pb.SamplingOptions(temperature=0)
LONG = 490
"""Tokens: what nearly fills the context, so that it is still going on when a test interferes."""


@asynccontextmanager
async def serving(supervisor, folder):
    """A worker's service on a socket of its own; yields a stub."""
    server = Server(
        ServerConfig(listen=f"unix:{folder}/w.sock"),
        {SERVICE: WorkerServicer(supervisor, worker="w1", version="1.2.3")},
    )
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield worker_pb2_grpc.WorkerServiceStub(channel)
    finally:
        await server.stop()
        await supervisor.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(supervisor_of, tmp_path_factory):
    supervisor = supervisor_of()
    async with serving(supervisor, tmp_path_factory.mktemp("s")) as stub:
        await supervisor.load("tiny-llama").ready()
        yield stub


def generate(stub, **fields):
    fields = {"model": "tiny-llama", "prompt": "Hi"} | fields
    if "stopping" not in fields:
        fields["stopping"] = pb.StoppingOptions(max_tokens=8)
    fields.setdefault("sampling", GREEDY)
    if fields.keys() & {"chat", "tokens"}:
        del fields["prompt"]
    request = worker_pb2.GenerateRequest(request_id="r1", request=pb.GenerateRequest(**fields))
    return Events(stub.Generate(request, timeout=30))


def user(*parts):
    return pb.ChatInput(messages=[pb.ChatMessage(role=pb.ROLE_USER, parts=parts)])


async def refusal(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return status.from_rpc_error(raised.value)


def fields_of(error):
    return [violation.field for violation in error.violations]


async def watched(stub, holds, gateway=""):
    """The first state of the worker, as told to a gateway, for which a condition holds."""
    watch = stub.Watch(worker_pb2.WatchRequest(min_interval_ms=1, gateway=gateway), timeout=30)
    async for state in watch:
        if holds(state):
            watch.cancel()
            return state
    raise AssertionError("the watch ended")


def deployment(state):
    return state.models[0].deployments[0]


# --------------------------------------------------------------------------------------- generation


async def whole(stream):
    """The response that a stream's events come to."""
    assembly = Assembly()
    async for event in stream:
        assembly.add(event)
    return assembly.response()


async def test_several_choices_of_one_prompt(stub):
    sampling = pb.SamplingOptions(temperature=1.5, seed=4)
    options = pb.OutputOptions(n=3, token_ids=True)
    response = await whole(generate(stub, prompt="Hi " * 20, sampling=sampling, output=options))
    assert [choice.index for choice in response.choices] == [0, 1, 2]
    assert len({choice.text for choice in response.choices}) == 3
    assert {choice.finish_reason for choice in response.choices} == {pb.FINISH_REASON_MAX_TOKENS}
    usage = response.receipt.usage
    assert usage.completion_tokens == sum(len(choice.token_ids) for choice in response.choices) == 24
    single = await whole(generate(stub, prompt="Hi " * 20, sampling=sampling))
    assert single.choices[0].text == response.choices[0].text


async def test_log_probabilities(stub):
    options = pb.OutputOptions(token_ids=True, logprobs=True, top_logprobs=3)
    response = await whole(generate(stub, output=options))
    (choice,) = response.choices
    assert [told.token_id for told in choice.logprobs] == list(choice.token_ids)
    assert b"".join(told.token for told in choice.logprobs).decode() == choice.text
    for told in choice.logprobs:
        assert told.logprob < 0
        assert len(told.top) == 3
        assert (told.top[0].token_id, told.top[0].logprob) == (told.token_id, told.logprob)  # greedy
        assert told.top[0].logprob >= told.top[1].logprob >= told.top[2].logprob


async def test_biased_tokens(stub):
    plain = await whole(generate(stub, output=pb.OutputOptions(token_ids=True)))
    first = plain.choices[0].token_ids[0]
    sampling = pb.SamplingOptions(temperature=0, logit_bias={first: -100, 40: 100})
    biased = await whole(generate(stub, sampling=sampling, output=pb.OutputOptions(token_ids=True)))
    assert list(biased.choices[0].token_ids) == [40] * 8
    error = await refusal(
        whole(generate(stub, sampling=pb.SamplingOptions(temperature=0, logit_bias={10**6: 1})))
    )
    assert fields_of(error) == ["sampling.logit_bias[1000000]"]


async def test_the_input_can_be_echoed(stub):
    plain = await whole(generate(stub))
    echoed = await whole(generate(stub, output=pb.OutputOptions(echo=True, n=2)))
    assert [choice.text for choice in echoed.choices] == ["Hi" + plain.choices[0].text] * 2


CLOCK = pb.Tool(
    name="clock",
    parameters_schema='{"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}, '
    '"required": ["zone"], "additionalProperties": false}',
)

NOW = pb.Tool(name="now", parameters_schema='{"type": "object", "additionalProperties": false}')


async def test_any_model_can_be_held_to_a_call(stub):
    chat = user(pb.ContentPart(text="What time is it?"))
    fields = {"chat": chat, "tools": [CLOCK], "stopping": pb.StoppingOptions(max_tokens=100)}
    error = await refusal(whole(generate(stub, **fields)))
    assert isinstance(error, errors.UnsupportedFeature)
    assert "tool_choice.constrained" in error.message
    choice = pb.ToolChoice(name="clock", constrained=True)
    events = [event async for event in generate(stub, tool_choice=choice, **fields)]
    deltas = [call for event in events for call in event.delta.tool_calls]
    assert (deltas[0].name, bool(deltas[0].id)) == ("clock", True)
    assert not any(delta.name or delta.id for delta in deltas[1:])
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    (answer,) = assembly.response().choices
    (call,) = answer.tool_calls
    assert json.loads(call.arguments)["zone"] in ("UTC", "CET")
    assert (answer.text, answer.finish_reason) == ("", pb.FINISH_REASON_TOOL_CALLS)
    # The call and its result go back into the conversation.
    turns = [
        *chat.messages,
        pb.ChatMessage(role=pb.ROLE_ASSISTANT, tool_calls=[call]),
        pb.ChatMessage(role=pb.ROLE_TOOL, tool_call_id=call.id, parts=[pb.ContentPart(text="12:00")]),
    ]
    assert (await whole(generate(stub, chat=pb.ChatInput(messages=turns)))).choices[0].text


@pytest.mark.parametrize("single", [False, True])
async def test_several_calls_are_told_apart_by_their_index(stub, single):
    likely = {byte_tokenizer().id_of(spelling): 100 for spelling in "[,"}
    events = generate(
        stub,
        chat=user(pb.ContentPart(text="What time is it?")),
        tools=[NOW],
        tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, constrained=True, single=single),
        stopping=pb.StoppingOptions(max_tokens=150),
        sampling=pb.SamplingOptions(temperature=0, logit_bias=likely),
    )
    assembly, begun = Assembly(), []
    async for event in events:
        assembly.add(event)
        begun += [call.index for call in event.delta.tool_calls if call.name]
    (answer,) = assembly.response().choices
    assert begun == list(range(len(answer.tool_calls)))
    assert all((call.name, json.loads(call.arguments)) == ("now", {}) for call in answer.tool_calls)
    assert len({call.id for call in answer.tool_calls}) == len(answer.tool_calls)
    assert (len(answer.tool_calls) == 1) == single
    assert answer.finish_reason == pb.FINISH_REASON_TOOL_CALLS


async def test_an_output_is_held_to_its_format(stub):
    form = pb.OutputOptions(response_format=pb.ResponseFormat(regex="(yes|no), [0-9]{3}"), n=2)
    response = await whole(generate(stub, output=form))
    for choice in response.choices:
        assert re.fullmatch("(yes|no), [0-9]{3}", choice.text)
        assert choice.finish_reason == pb.FINISH_REASON_END_OF_SEQUENCE
    broken = pb.OutputOptions(response_format=pb.ResponseFormat(regex="(yes"))
    assert fields_of(await refusal(whole(generate(stub, output=broken)))) == ["output.response_format.regex"]
    schema = '{"properties": {"a": {"type": "strong"}}}'
    broken = pb.OutputOptions(response_format=pb.ResponseFormat(json_schema=schema))
    error = await refusal(whole(generate(stub, output=broken)))
    assert fields_of(error) == ["output.response_format.json_schema"]
    assert "$.properties.a.type" in error.message


async def test_the_oldest_turns_are_dropped_if_they_may_be(stub):
    turns = [
        pb.ChatMessage(role=role, parts=[pb.ContentPart(text=f"{number} " * 30)])
        for number in range(6)
        for role in (pb.ROLE_USER, pb.ROLE_ASSISTANT)
    ]
    last = pb.ChatMessage(role=pb.ROLE_USER, parts=[pb.ContentPart(text="last")])
    chat = pb.ChatInput(messages=[*turns, last])
    assert isinstance(await refusal(whole(generate(stub, chat=chat))), errors.ContextLengthExceeded)
    response = await whole(generate(stub, chat=chat, truncation=pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS))
    dropped = response.accepted.dropped_messages
    assert 0 < dropped < 12
    assert dropped % 2 == 0
    rest = pb.ChatInput(messages=[*turns[dropped:], last])
    count = worker_pb2.CountTokensRequest(request=pb.CountTokensRequest(model="tiny-llama", chat=rest))
    counted = (await stub.CountTokens(count)).response.tokens
    assert counted == response.accepted.prompt_tokens == response.receipt.usage.prompt_tokens


async def test_nothing_stops_before_the_fewest_tokens(stub):
    plain = await whole(generate(stub, output=pb.OutputOptions(token_ids=True)))
    stop = plain.choices[0].token_ids[1]
    stopping = pb.StoppingOptions(max_tokens=8, min_tokens=5, stop_token_ids=[stop])
    held = await whole(generate(stub, stopping=stopping, output=pb.OutputOptions(token_ids=True)))
    assert len(held.choices[0].token_ids) >= 5
    assert stop not in list(held.choices[0].token_ids)


async def test_a_generation_from_accepted_to_receipt(stub):
    options = pb.OutputOptions(token_ids=True, prompt_token_ids=True)
    events = [event async for event in generate(stub, output=options)]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["accepted", *["delta"] * (len(kinds) - 3), "finished", "receipt"]
    accepted, finished, receipt = events[0].accepted, events[-2].finished, events[-1].receipt
    assert (accepted.request_id, accepted.model, accepted.worker) == ("r1", "tiny-llama", "w1")
    assert (accepted.backend, accepted.precision) == (pb.BACKEND_ONNX, pb.PRECISION_FP32)
    assert accepted.prompt_tokens == len(accepted.prompt_token_ids) == 2
    deltas = [event.delta for event in events[1:-2]]
    assert sum(delta.tokens for delta in deltas) == sum(len(delta.token_ids) for delta in deltas) == 8
    assert "".join(delta.text for delta in deltas)
    assert finished.reason == pb.FINISH_REASON_MAX_TOKENS
    assert (receipt.usage.prompt_tokens, receipt.usage.completion_tokens) == (2, 8)
    assert receipt.model_digest.startswith("sha256:")
    assert receipt.timings.prefill_ms > 0
    assert receipt.timings.decode_ms > 0


async def test_a_whole_answer_is_one_delta(stub):
    request = pb.GenerateRequest(
        model="tiny-llama", prompt="Hi", stopping=pb.StoppingOptions(max_tokens=8), sampling=GREEDY
    )
    message = worker_pb2.GenerateRequest(request=request, whole=True, attempt=3)
    whole = Events(stub.Generate(message, timeout=30))
    events = [event async for event in whole]
    assert [event.WhichOneof("event") for event in events] == ["accepted", "delta", "finished", "receipt"]
    assert [event.sequence for event in events] == [1, 2, 3, 4]
    assert len(whole.responses) == 2, "what comes behind accepted is one message"
    assert events[1].delta.tokens == 8
    assert events[3].receipt.attempts == 3
    streamed = [event async for event in generate(stub)]
    assert [event.sequence for event in streamed] == list(range(1, len(streamed) + 1))
    assert streamed[-1].receipt.attempts == 1
    assert "".join(event.delta.text for event in streamed) == events[1].delta.text


async def test_a_receipts_seed_repeats_its_text(stub):
    async def said(sampling):
        stream = generate(stub, sampling=sampling, stopping=pb.StoppingOptions(max_tokens=24))
        events = [event async for event in stream]
        return "".join(event.delta.text for event in events), events[-1].receipt.seed

    text, seed = await said(pb.SamplingOptions(temperature=1.5))
    assert await said(pb.SamplingOptions(temperature=1.5, seed=seed)) == (text, seed)
    assert (await said(pb.SamplingOptions(temperature=1.5)))[1] != seed


async def test_a_stop_string_and_a_stop_token(stub):
    options = pb.OutputOptions(token_ids=True)
    events = [event async for event in generate(stub, output=options)]
    text = "".join(event.delta.text for event in events)
    tokens = [token for event in events for token in event.delta.token_ids]
    stop = text[3:5]
    stream = generate(stub, stopping=pb.StoppingOptions(stop=[stop], max_tokens=20))
    events = [event async for event in stream]
    assert "".join(event.delta.text for event in events) == text[: text.index(stop)]
    assert events[-2].finished.reason == pb.FINISH_REASON_STOP
    assert events[-2].finished.stop_match.text == stop
    stream = generate(stub, stopping=pb.StoppingOptions(stop_token_ids=[tokens[4]], max_tokens=20))
    events = [event async for event in stream]
    assert events[-2].finished.stop_match.token_id == tokens[4]
    assert events[-1].receipt.usage.completion_tokens == tokens.index(tokens[4]) + 1


@pytest.mark.parametrize(
    "given",
    [
        {"prompt": "Who is it?"},
        {"chat": user(pb.ContentPart(text="Who <|im_end|>"), pb.ContentPart(text="?"))},
    ],
)
async def test_counts_are_those_of_the_receipt(stub, given):
    request = pb.CountTokensRequest(model="tiny-llama", token_ids=True, **given)
    counted = (await stub.CountTokens(worker_pb2.CountTokensRequest(request=request), timeout=30)).response
    events = [
        event async for event in generate(stub, output=pb.OutputOptions(prompt_token_ids=True), **given)
    ]
    assert counted.tokens == events[-1].receipt.usage.prompt_tokens > 0
    assert list(counted.token_ids) == list(events[0].accepted.prompt_token_ids)
    assert counted.context_length == 512


# --------------------------------------------------------------------------------------- refusals

IMAGE = pb.ContentPart(image=pb.Image(data=b"\x89PNG", media_type="image/png"))


@pytest.mark.parametrize(
    ("given", "kind", "fields"),
    [
        ({"model": "nobody"}, errors.ModelNotFound, []),
        ({"model": "tiny-llama/int8"}, errors.ModelNotFound, []),
        ({"precision": pb.PRECISION_INT8}, errors.ModelNotFound, []),
        ({"model": "tiny-llama/int8", "precision": pb.PRECISION_FP32}, errors.InvalidRequest, ["precision"]),
        ({"prompt": ""}, errors.InvalidRequest, ["prompt"]),
        ({"chat": pb.ChatInput()}, errors.InvalidRequest, ["chat.messages"]),
        (
            {"sampling": pb.SamplingOptions(temperature=-1, top_p=0)},
            errors.InvalidRequest,
            ["sampling.temperature", "sampling.top_p"],
        ),
        ({"priority": 99}, errors.InvalidRequest, ["priority"]),
        ({"tokens": pb.TokenInput(ids=[5, 10**6])}, errors.InvalidRequest, ["tokens.ids[1]"]),
        ({"prompt": "x" * 512}, errors.ContextLengthExceeded, ["input"]),
        (
            {"stopping": pb.StoppingOptions(max_tokens=511)},
            errors.ContextLengthExceeded,
            ["stopping.max_tokens"],
        ),
        (
            {"chat": user(pb.ContentPart(text="See"), IMAGE)},
            errors.UnsupportedFeature,
            ["chat.messages[0].parts[1].image"],
        ),
        ({"output": pb.OutputOptions(n=65)}, errors.InvalidRequest, ["output.n"]),
        ({"output": pb.OutputOptions(echo=True, logprobs=True)}, errors.InvalidRequest, ["output.echo"]),
    ],
)
async def test_what_is_refused_and_where(stub, given, kind, fields):
    error = await refusal(generate(stub, **given).read())
    assert type(error) is kind
    assert fields_of(error) == fields
    assert error.metadata["request_id"]


@pytest.mark.parametrize(
    ("prior", "field"),
    [
        ({"choice": 1}, "prior[0].choice"),
        ({"token_ids": [1_000_000]}, "prior.token_ids[0]"),
        ({"token_ids": [40, 41], "characters": 0}, "prior"),
    ],
)
async def test_what_cannot_have_been_generated_is_refused(stub, prior, field):
    request = worker_pb2.GenerateRequest(
        request=pb.GenerateRequest(model="tiny-llama", prompt="Hi"),
        prior=[worker_pb2.PriorChoice(**prior)],
    )
    error = await refusal(drained(Events(stub.Generate(request, timeout=30))))
    assert type(error) is errors.InvalidRequest
    assert fields_of(error) == [field]


async def drained(events):
    return [event async for event in events]


def prior_of(responses):
    """What a client has that got these."""
    prior = {}
    for response in responses:
        if response.kind in (worker_pb2.EVENT_KIND_DELTA, worker_pb2.EVENT_KIND_FINISHED):
            choice = prior.setdefault(response.choice, worker_pb2.PriorChoice(choice=response.choice))
            choice.token_ids.extend(response.token_ids)
            choice.characters += response.characters
            choice.finished = response.kind == worker_pb2.EVENT_KIND_FINISHED
            choice.completion_tokens = response.completion_tokens
    return list(prior.values())


async def test_another_attempt_goes_on_behind_any_event(stub):
    request = pb.GenerateRequest(
        model="tiny-llama",
        prompt="Hi",
        sampling=pb.SamplingOptions(temperature=1.5, seed=3, frequency_penalty=0.5),
        stopping=pb.StoppingOptions(max_tokens=6),
        output=pb.OutputOptions(n=2, echo=True),
    )
    first = Events(stub.Generate(worker_pb2.GenerateRequest(request=request), timeout=30))
    events = await drained(first)
    assert not any(event.delta.token_ids for event in events)
    for cut in range(1, len(events)):
        message = worker_pb2.GenerateRequest(
            request=request, prior=prior_of(first.responses[:cut]), after_sequence=cut, attempt=2
        )
        second = Events(stub.Generate(message, timeout=30))
        accepted, *rest = await drained(second)
        assert (accepted.WhichOneof("event"), accepted.sequence) == ("accepted", 0)
        assert [event.sequence for event in rest] == list(range(cut + 1, cut + 1 + len(rest)))
        whole, response = whole_of(events), whole_of([*events[:cut], *rest])
        assert response.choices == whole.choices
        assert response.receipt.usage.completion_tokens == whole.receipt.usage.completion_tokens == 12
        assert (response.receipt.attempts, response.receipt.seed) == (2, 3)


def whole_of(events):
    assembly = Assembly()
    for event in events:
        assembly.add(event)
    return assembly.response()


async def test_counts_are_refused_alike(stub):
    request = pb.CountTokensRequest(model="tiny-llama", chat=user(IMAGE))
    error = await refusal(stub.CountTokens(worker_pb2.CountTokensRequest(request=request), timeout=30))
    assert fields_of(error) == ["chat.messages[0].parts[0].image"]


async def test_an_unknown_precision_is_no_default(stub):
    for call in (
        stub.LoadModel(worker_pb2.LoadModelRequest(model="tiny-llama", precision=99), timeout=30).read(),
        stub.UnloadModel(worker_pb2.UnloadModelRequest(model="tiny-llama", precision=99), timeout=30),
    ):
        assert fields_of(await refusal(call)) == ["precision"]


async def test_a_full_queue(supervisor_of, tmp_path):
    supervisor = supervisor_of(slots=1, max_queue=0)
    async with serving(supervisor, tmp_path) as stub:
        await supervisor.load("tiny-llama").ready()
        running = generate(stub, stopping=pb.StoppingOptions(max_tokens=LONG))
        await running.read()
        error = await refusal(generate(stub).read())
        assert type(error) is errors.QueueFull
        assert error.retry_after is not None
        running.cancel()


# ------------------------------------------------------------------------------- metadata and cancelling


async def test_initial_metadata_comes_when_the_engine_has_admitted(supervisor_of, prepare_tiny, tmp_path):
    gate = threading.Event()

    def prepare(entry, profile, report):
        assert gate.wait(30)
        return prepare_tiny(entry, profile, report)

    supervisor = supervisor_of(prepare=prepare)
    async with serving(supervisor, tmp_path) as stub:
        supervisor.load("tiny-llama")
        call = generate(stub)
        metadata = asyncio.create_task(call.initial_metadata())
        refused = generate(stub, prompt="x" * 512)
        # A round trip on the same connection: the calls before it have arrived by then.
        state = await watched(stub, lambda _: True)
        assert deployment(state).state == models_pb2.MODEL_STATE_LOADING
        assert not metadata.done()
        gate.set()
        await metadata
        assert (await call.read()).WhichOneof("event") == "accepted"
        assert type(await refusal(refused.read())) is errors.ContextLengthExceeded


async def test_a_client_that_cancels_frees_its_slot(stub):
    calls = [generate(stub, stopping=pb.StoppingOptions(max_tokens=LONG)) for _ in range(2)]
    for call in calls:
        assert (await call.read()).WhichOneof("event") == "accepted"
    state = await watched(stub, lambda state: deployment(state).slots.busy > 0)
    assert deployment(state).slots.total == SLOTS
    for call in calls:
        call.cancel()
    state = await watched(stub, lambda state: deployment(state).slots.busy == 0)
    assert deployment(state).slots.queued == 0


async def test_a_gateway_is_told_of_what_others_have_there(stub):
    request = pb.GenerateRequest(
        model="tiny-llama",
        precision=pb.PRECISION_FP32,
        prompt="Hi",
        stopping=pb.StoppingOptions(max_tokens=LONG),
        output=pb.OutputOptions(n=2),
    )
    call = stub.Generate(worker_pb2.GenerateRequest(request=request, gateway="mine"), timeout=30)
    await call.read()
    state = await watched(stub, lambda state: deployment(state).slots.busy == 2, "another")
    assert list(state.others) == [2]
    await watched(stub, lambda state: deployment(state).slots.busy == 2 and list(state.others) == [0], "mine")
    call.cancel()
    await watched(stub, lambda state: list(state.others) == [0], "another")


async def test_a_deadline_that_passes_frees_the_slot(stub):
    request = pb.GenerateRequest(
        model="tiny-llama", prompt="Hi", stopping=pb.StoppingOptions(max_tokens=LONG)
    )
    call = stub.Generate(worker_pb2.GenerateRequest(request=request), timeout=0.05)

    async def to_the_end():
        async for _ in call:
            pass

    assert type(await refusal(to_the_end())) is errors.DeadlineExceeded
    await watched(stub, lambda state: deployment(state).slots.busy == 0)


# --------------------------------------------------------------------------------- models and watching


async def test_a_model_from_load_to_unload_as_a_watcher_sees_it(supervisor_of, tmp_path):
    supervisor = supervisor_of()
    async with serving(supervisor, tmp_path) as stub:
        watch = stub.Watch(worker_pb2.WatchRequest(min_interval_ms=1), timeout=60)
        state = await watch.read()
        assert (state.worker, state.backend, state.version) == ("w1", pb.BACKEND_ONNX, "1.2.3")
        assert (len(state.models), state.draining) == (0, False)

        loading = stub.LoadModel(
            worker_pb2.LoadModelRequest(model="tiny-llama", precision=pb.PRECISION_INT8), timeout=60
        )
        events = [event async for event in loading]
        assert [event.WhichOneof("event") for event in events[:-1]] == ["progress"] * (len(events) - 1)
        assert len(events) > 1
        loaded = events[-1].model
        assert loaded.name == "tiny-llama"
        assert loaded.deployments[0].precision == pb.PRECISION_INT8
        assert loaded.deployments[0].state == models_pb2.MODEL_STATE_READY
        assert loaded.capabilities.context_length == 512

        states = []
        while not states or states[-1] != models_pb2.MODEL_STATE_READY:
            state = await watch.read()
            states += [deployment(state).state] if state.models else []
        assert states[0] == models_pb2.MODEL_STATE_LOADING
        # The only one loaded serves those who name no precision.
        assert [event async for event in generate(stub)][-1].receipt.precision == pb.PRECISION_INT8

        await stub.UnloadModel(worker_pb2.UnloadModelRequest(model="tiny-llama"), timeout=30)
        while (await watch.read()).models:
            pass
        assert type(await refusal(generate(stub).read())) is errors.ModelNotFound
        unload = stub.UnloadModel(worker_pb2.UnloadModelRequest(model="tiny-llama"), timeout=30)
        assert type(await refusal(unload)) is errors.ModelNotFound
        watch.cancel()


async def test_loading_what_is_loaded_or_unknown(stub):
    loading = stub.LoadModel(worker_pb2.LoadModelRequest(model="fixtures/tiny"), timeout=30)
    assert [event.WhichOneof("event") async for event in loading] == ["model"]
    unknown = stub.LoadModel(worker_pb2.LoadModelRequest(model="tiny-lama"), timeout=30)
    error = await refusal(unknown.read())
    assert type(error) is errors.ModelNotFound
    assert error.metadata["suggestions"] == "tiny-llama"


async def test_a_model_that_cannot_be_loaded_tells_both_callers_why(supervisor_of, tmp_path):
    def prepare(*_):
        raise errors.DigestMismatch("other bytes", metadata={"digest": "00"})

    supervisor = supervisor_of(prepare=prepare)
    async with serving(supervisor, tmp_path) as stub:

        async def load():
            stream = stub.LoadModel(worker_pb2.LoadModelRequest(model="tiny-llama"), timeout=30)
            async for _ in stream:
                pass

        first, second = await refusal(load()), await refusal(load())
        assert type(first) is type(second) is errors.DigestMismatch
        assert first.metadata["request_id"] != second.metadata["request_id"]
        error = await refusal(generate(stub).read())
        assert type(error) is errors.Unavailable
        assert "other bytes" in error.message
        state = await watched(stub, lambda _: True)
        assert deployment(state).state == models_pb2.MODEL_STATE_FAILED
        assert deployment(state).detail == "other bytes"


# ------------------------------------------------------------------------------------ a whole worker


@asynccontextmanager
async def worker_process(home, catalogue, folder, *options):
    """``python -m workers.onnx_worker serve``; yields the process and a channel to it."""
    listen = f"unix:{folder}/w.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "workers.onnx_worker", "serve", "--model", "tiny-llama"),
        *("--listen", listen, "--home", str(home), "--catalogue", str(catalogue), "--threads", "1"),
        "--no-on-demand",
        *options,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(listen) as channel:
            yield process, channel
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until_serving(channel, service):
    """A watch of a service's health that has just told SERVING."""
    stub = health_pb2_grpc.HealthStub(channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30, wait_for_ready=True)
    while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
        pass
    return watch


async def test_health_and_drain_of_a_whole_worker(tiny_home, tiny_catalogue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    async with worker_process(tiny_home, tiny_catalogue, folder) as (process, channel):
        health = await until_serving(channel, SERVICE.full_name)
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        watch = stub.Watch(worker_pb2.WatchRequest(min_interval_ms=1), timeout=30)
        assert deployment(await watch.read()).state == models_pb2.MODEL_STATE_READY

        running = generate(stub, stopping=pb.StoppingOptions(max_tokens=LONG))
        events = [await running.read()]
        process.send_signal(signal.SIGTERM)
        assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        while events[-1].WhichOneof("event") != "receipt":
            events.append(await running.read())
        assert events[-1].receipt.usage.completion_tokens == LONG
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        health.cancel()
        watch.cancel()


async def test_what_still_runs_when_a_workers_time_is_over_can_go_on_elsewhere(
    tiny_home, tiny_catalogue, tmp_path_factory
):
    folder = tmp_path_factory.mktemp("s")
    async with worker_process(tiny_home, tiny_catalogue, folder, "--drain-seconds", "0") as (
        process,
        channel,
    ):
        await until_serving(channel, "model/tiny-llama")
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        running = [generate(stub, stopping=pb.StoppingOptions(max_tokens=LONG)) for _ in range(SLOTS)]
        for call in running:
            await call.read()
        process.send_signal(signal.SIGTERM)
        for call in running:
            error = await refusal(drained(call))
            assert isinstance(error, errors.Draining)
            assert error.retry_after
        async with asyncio.timeout(10):
            assert await process.wait() == 0


async def test_a_worker_whose_address_is_taken_says_so(tiny_home, tiny_catalogue, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.onnx_worker", "serve", "--listen", f"127.0.0.1:{port}"),
        *("--home", str(folder), "--catalogue", str(tiny_catalogue), "--model", "tiny-llama"),
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, stderr = await process.communicate()
    await server.stop(None)
    assert process.returncode == 1
    assert "is the address in use?" in stderr.decode()
    assert not list(folder.iterdir())
