"""OpenAI's own package, unchanged: what its users do with it."""

from __future__ import annotations

import asyncio
import base64
import json

import openai
import pytest
from pydantic import BaseModel, Field

MODEL = "SmolLM2-135M-Instruct"
SEEING = "seeing"
QUESTION = "What is the capital of France?"
ANSWER = "Paris"
ASKED = [{"role": "user", "content": QUESTION}]


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    inhabitants: int = Field(ge=0, le=10_000_000)


CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tells the time in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

CALLING = {
    "model": MODEL,
    "tools": [CLOCK],
    "tool_choice": "required",
    "temperature": 0,
    "extra_body": {"constrained_tool_calls": True},
}
LONG = {"model": MODEL, "messages": ASKED, "max_tokens": 2000, "extra_body": {"min_tokens": 2000}}


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as connected:
        yield connected


class TestChats:
    def test_whole_with_all_that_comes_along(self, client):
        answer = client.chat.completions.create(
            model=MODEL, messages=ASKED, temperature=0.8, seed=7, n=2, max_completion_tokens=24, logprobs=True
        )
        again = client.chat.completions.create(
            model=MODEL, messages=ASKED, temperature=0.8, seed=7, n=2, max_completion_tokens=24
        )
        texts = [choice.message.content for choice in answer.choices]
        assert len(texts) == 2
        assert texts == [choice.message.content for choice in again.choices]
        assert answer.usage.completion_tokens <= 48
        assert all(choice.logprobs.content[0].logprob <= 0 for choice in answer.choices)

    def test_streamed_with_usage(self, client):
        with client.chat.completions.create(
            model=MODEL, messages=ASKED, temperature=0, stream=True, stream_options={"include_usage": True}
        ) as stream:
            chunks = list(stream)
        assert ANSWER in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert chunks[-1].usage.completion_tokens > 0

    def test_a_stream_that_is_closed_early_and_another_one(self, client):
        stream = client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        next(iter(stream))
        stream.close()
        answer = client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0)
        assert ANSWER in answer.choices[0].message.content

    async def many(self, url):
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=ASKED, temperature=0, max_tokens=16)
                    for _ in range(8)
                )
            )

    def test_eight_at_a_time(self, url):
        answers = asyncio.run(self.many(url))
        assert all(ANSWER in answer.choices[0].message.content for answer in answers)

    def test_models(self, client):
        assert {MODEL, "Seeing-2M-Drawings"} <= {model.id for model in client.models.list()}
        assert client.models.retrieve(MODEL).id == MODEL


class TestImages:
    @pytest.mark.parametrize("kind", ["pizza", "car"])
    def test_what_is_drawn_is_what_is_said(self, client, drawing, kind):
        url = f"data:image/png;base64,{base64.b64encode(drawing(kind)).decode()}"
        parts = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": "What is in this image?"},
        ]
        answer = client.chat.completions.create(
            model=SEEING, messages=[{"role": "user", "content": parts}], temperature=0, max_tokens=40
        )
        assert kind in answer.choices[0].message.content

    def test_a_model_that_sees_nothing_says_so(self, client, drawing):
        url = f"data:image/png;base64,{base64.b64encode(drawing('car')).decode()}"
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
            )
        assert raised.value.param.startswith("messages")


class TestFormats:
    def test_a_class_is_parsed(self, client):
        answer = client.chat.completions.parse(model=MODEL, messages=ASKED, response_format=City)
        assert isinstance(answer.choices[0].message.parsed, City)

    def test_a_json_object(self, client):
        answer = client.chat.completions.create(
            model=MODEL,
            messages=ASKED,
            response_format={"type": "json_object"},
            max_tokens=200,
            temperature=0,
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "length" or isinstance(json.loads(choice.message.content), dict)

    def test_a_schema_streamed(self, client):
        with client.chat.completions.stream(model=MODEL, messages=ASKED, response_format=City) as stream:
            answer = stream.get_final_completion()
        assert isinstance(answer.choices[0].message.parsed, City)


class TestTools:
    def test_a_call_and_what_came_of_it(self, client):
        asked = [{"role": "user", "content": "What time is it in Rome?"}]
        first = client.chat.completions.create(messages=asked, **CALLING)
        (call,) = first.choices[0].message.tool_calls
        assert first.choices[0].finish_reason == "tool_calls"
        assert call.function.name == "clock"
        assert set(json.loads(call.function.arguments)) == {"city"}
        told = [
            *asked,
            first.choices[0].message.model_dump(exclude_none=True, include={"role", "tool_calls"}),
            {"role": "tool", "tool_call_id": call.id, "content": "half past nine"},
        ]
        second = client.chat.completions.create(messages=told, **CALLING)
        assert second.choices[0].message.tool_calls[0].id != call.id

    def test_a_call_streamed(self, client):
        asked = [{"role": "user", "content": "What time is it in Rome?"}]
        chunks = client.chat.completions.create(messages=asked, stream=True, **CALLING)
        pieces = [
            call.function
            for chunk in chunks
            for each in chunk.choices
            for call in each.delta.tool_calls or ()
        ]
        assert pieces[0].name == "clock"
        assert set(json.loads("".join(piece.arguments or "" for piece in pieces))) == {"city"}


class TestErrors:
    def test_a_model_that_nobody_serves(self, client):
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model="nobody", messages=ASKED)
        assert raised.value.code == "model_not_found"

    def test_a_field_out_of_range_is_named(self, client):
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model=MODEL, messages=ASKED, temperature=-1)
        assert (raised.value.param, raised.value.type) == ("temperature", "invalid_request_error")

    def test_what_has_no_room_in_the_context(self, client):
        with pytest.raises(openai.BadRequestError) as raised:
            client.completions.create(model=MODEL, prompt=[1] * 9000, max_tokens=1)
        assert raised.value.code == "context_length_exceeded"

    def test_nobody_there(self):
        client = openai.OpenAI(base_url="http://127.0.0.1:1/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model=MODEL, messages=ASKED)


class TestTimeouts:
    def test_of_the_client(self, client):
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.5).chat.completions.create(**LONG)
        assert client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=1).choices

    def test_of_the_request(self, client):
        with pytest.raises(openai.APIStatusError) as raised:
            client.chat.completions.create(**LONG, extra_headers={"x-request-timeout": "0.5"})
        assert raised.value.status_code in {429, 504}  # refused since it can't be ready, or ended
