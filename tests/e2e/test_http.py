"""OpenAI's own client, a gateway process, a worker process and the default model."""

from __future__ import annotations

import asyncio
import json

import openai
import pytest

from tests.e2e import services

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def url(stack):
    with services.gateway(stack.worker.address, "--http-listen", "127.0.0.1:0") as gateway:
        yield gateway.entry("listening", nth=2)["address"]


@pytest.fixture
async def client(url, stack):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=3) as connected:
        while True:
            model = await connected.models.retrieve(services.DEFAULT_MODEL)
            if any(each["state"] == "ready" for each in model.diplex["deployments"]):
                break
        yield connected


def chat(client, **options):
    asked = {"model": services.DEFAULT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    return client.chat.completions.create(**(asked | options))


async def test_the_answer_is_that_of_grpc(client, stack):
    with services.Client(stack.gateway.address) as over_grpc:
        expected = over_grpc.generate(QUESTION[0]["content"], temperature=0, max_tokens=24)
    whole = await chat(client)
    pieces = [chunk async for chunk in await chat(client, stream=True)]
    assert whole.choices[0].message.content == expected.text
    assert "".join(chunk.choices[0].delta.content or "" for chunk in pieces) == expected.text
    assert whole.usage.prompt_tokens == expected.receipt.usage.prompt_tokens
    assert whole.diplex["model_digest"] == pieces[-1].diplex["model_digest"] == expected.receipt.model_digest


async def test_a_schema(client):
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}, "people": {"type": "integer"}},
        "required": ["city", "people"],
        "additionalProperties": False,
    }
    format_ = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}
    answer = await chat(client, response_format=format_, max_tokens=96)
    told = json.loads(answer.choices[0].message.content)
    assert isinstance(told["city"], str)
    assert isinstance(told["people"], int)


async def test_a_tool(client):
    parameters = {
        "type": "object",
        "properties": {"city": {"enum": ["Rome"]}},
        "additionalProperties": False,
    }
    function = {"name": "clock", "parameters": parameters}
    tools = [{"type": "function", "function": function}]
    with pytest.raises(openai.BadRequestError) as raised:
        await chat(client, tools=tools)
    assert raised.value.param == "tools"
    constrained = {"constrained_tool_calls": True}
    answer = await chat(client, tools=tools, tool_choice="required", extra_body=constrained, max_tokens=96)
    [call, *_] = answer.choices[0].message.tool_calls
    assert call.function.name == "clock"
    assert json.loads(call.function.arguments).keys() <= {"city"}
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_choices_log_probabilities_and_seeds(client):
    options = {"n": 2, "temperature": 1, "seed": 7, "logprobs": True, "top_logprobs": 2, "max_tokens": 5}
    first, second = await chat(client, **options), await chat(client, **options)
    assert [it.message.content for it in first.choices] == [it.message.content for it in second.choices]
    told = first.choices[0].logprobs.content
    assert "".join(token.token for token in told) == first.choices[0].message.content
    assert all(len(token.top_logprobs) == 2 for token in told)
    assert first.diplex["seed"] == 7


async def test_a_completion_is_echoed_and_cut_off(client):
    asked = {"model": services.DEFAULT_MODEL, "prompt": "One, two, three,", "temperature": 0}
    answer = await client.completions.create(**asked, echo=True)
    assert answer.choices[0].text.startswith("One, two, three, four")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 16
    assert answer.diplex["finish_reasons"] == ["max_tokens"]


async def test_a_prompt_that_is_too_long(client):
    with pytest.raises(openai.BadRequestError) as raised:
        await chat(client, messages=[{"role": "user", "content": "word " * 20_000}])
    assert raised.value.code == "context_length_exceeded"


async def test_clients_that_leave_free_their_slots(client):
    streams = await asyncio.gather(
        *(chat(client, stream=True, max_tokens=2000, extra_body={"min_tokens": 2000}) for _ in range(4))
    )
    for stream in streams:
        await anext(stream)
        await stream.close()
    async with asyncio.timeout(20):
        while True:
            model = await client.models.retrieve(services.DEFAULT_MODEL)
            if not any(each["slots"]["busy"] for each in model.diplex["deployments"]):
                break
