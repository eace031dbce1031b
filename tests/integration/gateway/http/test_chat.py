"""Chats by OpenAI's own client."""

from __future__ import annotations

import asyncio
import base64
import json

import openai
import pytest
from pydantic import BaseModel

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from tests.fakes import Admit, Fail, Hold, Say

HI = [{"role": "user", "content": "Hi"}]
PNG = b"\x89PNG not looked at by the fake"
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tells the time.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": True,
    },
}


def chat(client, **options):
    return client.chat.completions.create(**({"model": "tiny", "messages": HI} | options))


async def ended(asking):
    """The end of an answer, whole or streamed."""
    answer = await asking
    return [chunk async for chunk in answer] if isinstance(answer, openai.AsyncStream) else answer


async def seen(worker, client, **options):
    """What the worker is asked when the client asks for that."""
    await chat(client, **options)
    return worker.calls[-1].request.request


def said(message):
    """Names of the fields that are set."""
    return {field.name for field, _ in message.ListFields()}


class TestAnswers:
    async def test_whole(self, client, worker):
        answer = await chat(client, extra_headers={"x-request-id": "r1"})
        assert answer.id == "chatcmpl-r1"
        assert answer._request_id == "r1"
        assert answer.model == "tiny"
        [choice] = answer.choices
        assert (choice.message.role, choice.message.content) == ("assistant", "Hello world")
        assert choice.finish_reason == "stop"
        assert answer.usage.model_dump(exclude_unset=True, include={"prompt_tokens", "total_tokens"}) == {
            "prompt_tokens": 3,
            "total_tokens": 5,
        }
        assert answer.diplex["worker"] == "one"
        assert answer.diplex["finish_reasons"] == ["end_of_sequence"]
        assert worker.calls[0].request_id == "r1"
        assert worker.calls[0].request.whole

    async def test_streamed(self, client, worker):
        chunks = [chunk async for chunk in await chat(client, stream=True)]
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "Hello", " world", None]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]
        assert len({chunk.id for chunk in chunks}) == 1
        assert chunks[-1].diplex["worker"] == "one"
        assert not worker.calls[0].request.whole

    async def test_streamed_with_usage(self, client):
        options = {"include_usage": True}
        chunks = [chunk async for chunk in await chat(client, stream=True, stream_options=options)]
        assert [len(chunk.choices) for chunk in chunks] == [1, 1, 1, 1, 0]
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * 4
        assert chunks[-1].usage.total_tokens == 5
        assert chunks[-1].diplex["finish_reasons"] == ["end_of_sequence"]

    async def test_each_delta_comes_when_it_is_said(self, client, worker):
        gate = asyncio.Event()
        worker.script = [Say("a"), Hold(gate), Say("b")]
        stream = await chat(client, stream=True)
        await anext(stream)
        assert (await anext(stream)).choices[0].delta.content == "a"
        gate.set()
        assert (await anext(stream)).choices[0].delta.content == "b"

    async def test_the_end_is_marked(self, gateway, client):
        raw = await client.chat.completions.with_raw_response.create(model="tiny", messages=HI, stream=True)
        text = (await raw.http_response.aread()).decode()
        assert raw.headers["content-type"].startswith("text/event-stream")
        assert text.endswith("data: [DONE]\n\n")
        assert all(line.startswith("data: ") for line in text.split("\n\n") if line)

    async def test_text_that_json_escapes(self, client, worker):
        said = 'a "quoted" \\ line\n\u2028 and 語 and \x07'
        worker.script = [Say(said)]
        assert (await chat(client)).choices[0].message.content == said
        chunks = [chunk async for chunk in await chat(client, stream=True)]
        assert chunks[1].choices[0].delta.content == said

    async def test_parsed_into_a_class(self, client, worker):
        class City(BaseModel):
            name: str

        worker.script = [Say('{"name":'), Say('"Rome"}')]
        answer = await client.chat.completions.parse(model="tiny", messages=HI, response_format=City)
        assert answer.choices[0].message.parsed == City(name="Rome")
        sent = worker.calls[0].request.request.output.response_format.json_schema
        assert json.loads(sent)["properties"]["name"]["type"] == "string"


class TestRequests:
    async def test_sampling(self, client, worker):
        request = await seen(
            worker,
            client,
            temperature=0.5,
            top_p=0.25,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias={"7": -100},
            seed=-1,
            n=1,
            stop=["a", "b"],
            max_completion_tokens=9,
            extra_body={
                "top_k": 4,
                "min_p": 0.125,
                "repetition_penalty": 1.5,
                "min_tokens": 2,
                "stop_token_ids": [5],
                "priority": "interactive",
                "precision": "int8",
                "backend": "onnx",
                "time_limit": 1.5,
                "truncation": "drop_oldest_turns",
                "return_token_ids": True,
            },
        )
        assert request.sampling == pb.SamplingOptions(
            temperature=0.5,
            top_k=4,
            top_p=0.25,
            min_p=0.125,
            repetition_penalty=1.5,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            seed=2**64 - 1,
            logit_bias={7: -100},
        )
        assert request.stopping == pb.StoppingOptions(
            max_tokens=9, min_tokens=2, stop=["a", "b"], stop_token_ids=[5]
        )
        assert request.priority == pb.PRIORITY_INTERACTIVE
        assert request.truncation == pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS
        assert (request.backend, request.precision) == (pb.BACKEND_ONNX, pb.PRECISION_INT8)
        assert (request.time_limit.seconds, request.time_limit.nanos) == (1, 500_000_000)
        assert request.output.token_ids
        assert request.output.prompt_token_ids

    async def test_what_is_not_said_is_not_set(self, client, worker):
        request = await seen(worker, client)
        assert said(request.sampling) <= {"seed"}  # which the gateway may draw
        assert request.stopping == pb.StoppingOptions()
        assert request.output == pb.OutputOptions()
        assert not request.HasField("tool_choice")
        assert not request.HasField("image_options")

    async def test_null_is_not_said(self, client, worker):
        nulls = dict.fromkeys(("temperature", "tools", "response_format", "stop", "logit_bias", "functions"))
        request = await seen(worker, client, extra_body=nulls)
        assert said(request.sampling) <= {"seed"}  # which the gateway may draw

    async def test_messages(self, client, worker):
        call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        request = await seen(
            worker,
            client,
            messages=[
                {"role": "developer", "content": "Be brief."},
                {
                    "role": "user",
                    "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "time?"}],
                },
                {"role": "assistant", "content": "", "tool_calls": [call]},
                {"role": "tool", "content": "noon", "tool_call_id": "c1", "name": "clock"},
            ],
            tools=[CLOCK],
        )
        assert list(request.chat.messages) == [
            pb.ChatMessage(role=pb.ROLE_SYSTEM, parts=[pb.ContentPart(text="Be brief.")]),
            pb.ChatMessage(
                role=pb.ROLE_USER, parts=[pb.ContentPart(text="What"), pb.ContentPart(text="time?")]
            ),
            pb.ChatMessage(
                role=pb.ROLE_ASSISTANT, tool_calls=[pb.ToolCall(id="c1", name="clock", arguments="{}")]
            ),
            pb.ChatMessage(role=pb.ROLE_TOOL, parts=[pb.ContentPart(text="noon")], tool_call_id="c1"),
        ]

    async def test_an_answer_can_go_back_as_it_came(self, client, worker):
        message = (await chat(client)).choices[0].message
        again = await seen(worker, client, messages=[*HI, message, *HI])
        assert [each.parts[0].text for each in again.chat.messages] == ["Hi", "Hello world", "Hi"]

    async def test_an_image(self, client, worker):
        url = "data:image/png;base64," + base64.b64encode(PNG).decode()
        content = [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        ]
        request = await seen(worker, client, messages=[{"role": "user", "content": content}])
        assert request.chat.messages[0].parts[1].image == pb.Image(data=PNG, media_type="image/png")
        assert request.image_options == pb.ImageOptions(split=True)

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            ("none", pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_NONE)),
            ("auto", pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_AUTO)),
            ("required", pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)),
            ({"type": "function", "function": {"name": "clock"}}, pb.ToolChoice(name="clock")),
        ],
    )
    async def test_tools(self, client, worker, choice, expected):
        request = await seen(worker, client, tools=[CLOCK], tool_choice=choice)
        assert [tool.name for tool in request.tools] == ["clock"]
        assert json.loads(request.tools[0].parameters_schema) == CLOCK["function"]["parameters"]
        assert request.tool_choice == expected

    async def test_how_tools_are_called(self, client, worker):
        request = await seen(
            worker,
            client,
            tools=[CLOCK],
            tool_choice="required",
            parallel_tool_calls=False,
            extra_body={"constrained_tool_calls": True},
        )
        assert request.tool_choice.single
        assert request.tool_choice.constrained

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"response_format": {"type": "text"}}, None),
            (
                {"response_format": {"type": "json_object"}},
                pb.ResponseFormat(json_schema='{"type":"object"}'),
            ),
            (
                {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
                pb.ResponseFormat(json_schema="{}"),
            ),
            ({"extra_body": {"regex": "a+"}}, pb.ResponseFormat(regex="a+")),
            ({"extra_body": {"grammar": "start: A"}}, pb.ResponseFormat(grammar="start: A")),
        ],
    )
    async def test_formats(self, client, worker, options, expected):
        request = await seen(worker, client, **options)
        assert (
            request.output.response_format if request.output.HasField("response_format") else None
        ) == expected

    async def test_logprobs_are_asked_for(self, client, worker):
        request = await seen(worker, client, logprobs=True, top_logprobs=3)
        assert request.output == pb.OutputOptions(logprobs=True, top_logprobs=3)

    async def test_who_asks(self, client, worker):
        await chat(client)
        await chat(client, user="ann")
        assert [call.request.client for call in worker.calls] == ["127.0.0.1", "ann"]

    async def test_older_clients_path(self, gateway, client, worker):
        url = f"{gateway.url}/chat-server/v1/chat/completions/torch"
        body = {"model": "tiny", "messages": HI}
        for asked in ("pytorch", "torch", None):
            with pytest.raises(openai.APIStatusError) as raised:
                await client.post(url, cast_to=object, body=body | {"backend": asked})
            assert "backend" in str(raised.value)
        await client.post(url, cast_to=object, body=body | {"backend": "onnx"})
        assert worker.calls[0].request.request.backend == pb.BACKEND_ONNX


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "param"),
        [
            ({"temperature": -1}, "temperature"),
            ({"extra_body": {"temperature": "hot"}}, "temperature"),
            ({"extra_body": {"guided_regex": "a"}}, "guided_regex"),
            ({"functions": []}, "functions"),
            ({"store": True}, "store"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
            ({"top_logprobs": 1}, "top_logprobs"),
            ({"n": 65}, "n"),
            ({"stop": ["x"] * 17}, "stop"),
            ({"logit_bias": {"x": 1}}, "logit_bias"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]}, "messages[0].name"),
            ({"messages": [{"role": "poet", "content": "Hi"}]}, "messages[0].role"),
            ({"tool_choice": "required"}, "tool_choice"),
            ({"tools": [CLOCK, CLOCK]}, "tools[1].function.name"),
            ({"response_format": {"type": "json_object"}, "extra_body": {"regex": "a"}}, "response_format"),
        ],
    )
    async def test_the_field_is_named(self, client, worker, options, param):
        with pytest.raises(openai.BadRequestError) as raised:
            await chat(client, **options)
        assert raised.value.param == param
        assert raised.value.type == "invalid_request_error"
        assert param in raised.value.message
        assert raised.value.request_id
        assert not worker.calls

    @pytest.mark.parametrize(
        "url",
        [
            "https://img.example/a.png",
            "http://img.example/a.png",
            "file:///etc/passwd",
            "x",
            "data:image/png,a",
            "data:image/png;base64,a*b=",
            "data:text/plain;base64,aaaa",
        ],
    )
    async def test_images_that_can_not_be_had(self, client, worker, url):
        content = [{"type": "image_url", "image_url": {"url": url}}]
        with pytest.raises(openai.BadRequestError) as raised:
            await chat(client, messages=[{"role": "user", "content": content}])
        assert raised.value.param.startswith("messages[0].content[0]")
        assert not worker.calls

    @pytest.mark.parametrize(
        ("error", "kind", "code", "retry"),
        [
            (errors.QueueFull("full", retry_after=2.5), openai.RateLimitError, "queue_full", "3"),
            (errors.RateLimited("fast"), openai.RateLimitError, "rate_limit_exceeded", "1"),
            (errors.EngineCrashed("gone"), openai.InternalServerError, "engine_crashed", "1"),
            (errors.ContextLengthExceeded("long"), openai.BadRequestError, "context_length_exceeded", None),
            (errors.InsufficientMemory("big"), openai.InternalServerError, "insufficient_memory", None),
        ],
    )
    async def test_a_workers_error(self, client, worker, *, error, kind, code, retry):
        worker.script = [Fail(error)]
        for stream in (False, True):
            with pytest.raises(kind) as raised:
                await chat(client, stream=stream)
            assert raised.value.code == code
            assert raised.value.response.headers.get("retry-after") == retry
            assert raised.value.response.headers["x-should-retry"] == ("true" if retry else "false")
            assert raised.value.body["diplex"]["reason"] == error.reason
            assert raised.value.body["diplex"]["metadata"]["request_id"] == raised.value.request_id

    async def test_an_error_in_the_midst_of_a_stream(self, client, worker):
        worker.script = [Say("a"), Fail(errors.InternalError("broken"))]
        stream = await chat(client, stream=True)
        with pytest.raises(openai.APIError) as raised:
            [chunk async for chunk in stream]
        assert raised.value.body["code"] == "internal"

    async def test_an_unknown_model(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            await chat(client, model="nobody/knows")
        assert raised.value.code == "model_not_found"


class TestEnds:
    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_client_that_leaves_ends_the_generation(self, client, worker, stream):
        worker.script = [Admit(), Hold(asyncio.Event())]
        asking = asyncio.create_task(chat(client, stream=stream))
        call = await worker.next_call()
        if stream:
            await (await asking).close()
        else:
            asking.cancel()
        await asyncio.wait_for(call.ended.wait(), 10)
        assert call.cancelled

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_deadline(self, client, worker, stream):
        worker.script = [Admit(), Hold(asyncio.Event())]
        with pytest.raises(openai.APIError) as raised:
            await ended(chat(client, stream=stream, extra_headers={"x-request-timeout": "0.2"}))
        assert raised.value.code == "deadline_exceeded"
        call = await worker.next_call()
        assert 0 < call.timeout < 0.3
        await asyncio.wait_for(call.ended.wait(), 10)

    @pytest.mark.parametrize("seconds", ["0", "-1", "soon", "nan", "inf"])
    async def test_no_deadline(self, client, seconds):
        with pytest.raises(openai.BadRequestError) as raised:
            await chat(client, extra_headers={"x-request-timeout": seconds})
        assert raised.value.param == "x-request-timeout"

    async def test_the_clients_own_timeout(self, client, worker):
        worker.script = [Admit(), Hold(asyncio.Event())]
        with pytest.raises(openai.APITimeoutError):
            await chat(client, timeout=0.3)
        call = await worker.next_call()
        await asyncio.wait_for(call.ended.wait(), 10)
        assert call.cancelled
