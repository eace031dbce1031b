"""Responses by OpenAI's own client."""

from __future__ import annotations

import openai
import pytest
from pydantic import BaseModel

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from tests.fakes import End, Fail, Say, Send

CLOCK = {
    "type": "function",
    "name": "clock",
    "description": "Tells the time.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


def calling(*pieces, name="", identity="", index=0):
    """Steps that make a call."""
    first = pb.ToolCallDelta(index=index, id=identity, name=name)
    more = [pb.ToolCallDelta(index=index, arguments=piece) for piece in pieces]
    return [Send(pb.Delta(tool_calls=[call], tokens=1)) for call in (first, *more)]


CALLS = [
    Say("Let me see."),
    *calling('{"city":', '"Rome"}', name="clock", identity="c1"),
    *calling("{}", name="clock", identity="c2", index=1),
    End(pb.FINISH_REASON_TOOL_CALLS),
]


def respond(client, **options):
    return client.responses.create(**({"model": "tiny", "input": "Hi"} | options))


class TestWhole:
    async def test_text(self, client, worker):
        answer = await respond(
            client, instructions="Be brief.", max_output_tokens=9, extra_headers={"x-request-id": "r1"}
        )
        assert answer.id == "resp_r1"
        assert answer.output_text == "Hello world"
        assert answer.status == "completed"
        assert answer.usage.total_tokens == 5
        assert answer.model_extra["diplex"]["worker"] == "one"
        request = worker.calls[0].request.request
        assert [(it.role, it.parts[0].text) for it in request.chat.messages] == [
            (pb.ROLE_SYSTEM, "Be brief."),
            (pb.ROLE_USER, "Hi"),
        ]
        assert request.stopping.max_tokens == 9

    async def test_what_was_cut_off(self, client, worker):
        worker.script = [Say("a"), End(pb.FINISH_REASON_MAX_TOKENS)]
        answer = await respond(client)
        assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")

    async def test_calls(self, client, worker):
        worker.script = CALLS
        answer = await respond(client, tools=[CLOCK], tool_choice={"type": "function", "name": "clock"})
        assert [item.type for item in answer.output] == ["message", "function_call", "function_call"]
        assert (answer.output[1].call_id, answer.output[1].arguments) == ("c1", '{"city":"Rome"}')
        assert worker.calls[0].request.request.tool_choice.name == "clock"

    async def test_a_conversation_goes_back_as_it_came(self, client, worker):
        worker.script = CALLS
        answer = await respond(client, tools=[CLOCK])
        results = [{"type": "function_call_output", "call_id": id_, "output": "noon"} for id_ in ("c1", "c2")]
        question = {"role": "user", "content": "Hi"}
        await respond(client, input=[question, *answer.output, *results], tools=[CLOCK])
        sent = worker.calls[1].request.request.chat.messages
        assert [message.role for message in sent] == [
            pb.ROLE_USER,
            pb.ROLE_ASSISTANT,
            pb.ROLE_TOOL,
            pb.ROLE_TOOL,
        ]
        assert [call.id for call in sent[1].tool_calls] == ["c1", "c2"]
        assert (sent[3].tool_call_id, sent[3].parts[0].text) == ("c2", "noon")

    async def test_parsed_into_a_class(self, client, worker):
        class City(BaseModel):
            name: str

        worker.script = [Say('{"name":"Rome"}')]
        answer = await client.responses.parse(model="tiny", input="Hi", text_format=City)
        assert answer.output_parsed == City(name="Rome")
        assert worker.calls[0].request.request.output.response_format.json_schema

    async def test_an_image(self, client, worker):
        parts = [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_image", "image_url": "data:image/png;base64,aaaa", "detail": "auto"},
        ]
        await respond(client, input=[{"role": "user", "content": parts}])
        assert worker.calls[0].request.request.chat.messages[0].parts[1].image.data == b"i\xa6\x9a"

    async def test_other_options(self, client, worker):
        await respond(
            client,
            truncation="auto",
            temperature=0.5,
            include=["message.output_text.logprobs"],
            top_logprobs=2,
            parallel_tool_calls=False,
            extra_body={"top_k": 3, "logit_bias": {"7": 1}, "stop": "x", "seed": 1},
        )
        request = worker.calls[0].request.request
        assert request.truncation == pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS
        assert (request.sampling.temperature, request.sampling.top_k) == (0.5, 3)
        assert dict(request.sampling.logit_bias) == {7: 1}
        assert request.output == pb.OutputOptions(logprobs=True, top_logprobs=2)
        assert request.tool_choice.single


class TestStreamed:
    @pytest.mark.parametrize(
        "script", [[Say("Hello"), Say(" world")], CALLS, []], ids=["text", "calls", "none"]
    )
    async def test_the_end_is_what_comes_whole(self, client, worker, script):
        worker.script = script or [Send(pb.Delta(tokens=1))]
        headers = {"x-request-id": "r1"}
        whole = await respond(client, extra_headers=headers)
        async with client.responses.stream(model="tiny", input="Hi", extra_headers=headers) as stream:
            events = [event async for event in stream]
            final = await stream.get_final_response()
        assert [event.sequence_number for event in events] == list(range(len(events)))
        assert [plain(item) for item in final.output] == [plain(item) for item in whole.output]
        assert (final.status, final.id) == (whole.status, whole.id)

    async def test_events(self, client, worker):
        worker.script = CALLS
        stream = await respond(client, stream=True)
        kinds = [event.type.removeprefix("response.") async for event in stream]
        assert kinds == [
            *("created", "in_progress"),
            *("output_item.added", "content_part.added", "output_text.delta"),
            *("output_text.done", "content_part.done", "output_item.done"),
            *("output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done"),
            *("output_item.added", "function_call_arguments.delta"),
            *("function_call_arguments.done", "output_item.done"),
            "completed",
        ]

    async def test_an_error(self, client, worker):
        worker.script = [Say("a"), Fail(errors.InternalError("broken"))]
        stream = await respond(client, stream=True)
        with pytest.raises(openai.APIError):
            [event async for event in stream]


def plain(item):
    """An item, but for what the client itself adds when it parses."""
    told = item.to_dict()
    told.pop("parsed_arguments", None)
    for part in told.get("content", ()):
        part.pop("parsed", None)
    return told


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"extra_body": {"n": 2}}, "n"),
        ({"extra_body": {"messages": []}}, "messages"),
    ],
)
async def test_refusals(client, worker, options, param):
    with pytest.raises(openai.BadRequestError) as raised:
        await respond(client, **options)
    assert raised.value.param == param
    assert not worker.calls


async def test_a_chat_with_calls(client, worker):
    worker.script = CALLS
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
    answer = await client.chat.completions.create(**chat)
    [choice] = answer.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me see."
    assert [call.function.arguments for call in choice.message.tool_calls] == ['{"city":"Rome"}', "{}"]
    async with client.chat.completions.stream(**chat) as stream:
        [event async for event in stream]
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == '{"city":"Rome"}'
    assert [call.id for call in final.choices[0].message.tool_calls] == ["c1", "c2"]
    assert final.choices[0].finish_reason == "tool_calls"
