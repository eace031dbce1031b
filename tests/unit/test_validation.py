"""Each rule for public requests: what breaks it, and which field is named."""

from __future__ import annotations

import math

import pytest
from google.protobuf import duration_pb2

from diplex import errors, validation
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.validation import LARGEST_IMAGE, MOST_IMAGES, check_count_tokens, check_generate, image_fields

TEXT = pb.ContentPart(text="Hi")
PICTURE = pb.ContentPart(image=pb.Image(data=b"x"))
CALL = pb.ToolCall(name="add")


def message(*parts, role=pb.ROLE_USER, **more):
    return pb.ChatMessage(role=role, parts=parts, **more)


def chat(*messages, **fields):
    return pb.GenerateRequest(chat=pb.ChatInput(messages=messages), **fields)


def prompt(**more):
    return pb.GenerateRequest(prompt="Hi", **more)


def sampling(**options):
    return prompt(sampling=pb.SamplingOptions(**options))


def stopping(**options):
    return prompt(stopping=pb.StoppingOptions(**options))


def output(**options):
    return prompt(output=pb.OutputOptions(**options))


def violated(request, check=check_generate):
    """The fields of an InvalidRequest that is nothing more special."""
    with pytest.raises(errors.InvalidRequest) as raised:
        check(request)
    assert type(raised.value) is errors.InvalidRequest
    return [violation.field for violation in raised.value.violations]


SOUND = {
    "prompt": prompt(),
    "tokens": pb.GenerateRequest(tokens=pb.TokenInput(ids=[0])),
    "chat": chat(message(TEXT, role=pb.ROLE_SYSTEM), message(TEXT)),
    "images": chat(message(*[PICTURE] * MOST_IMAGES), image_options=pb.ImageOptions(split=True)),
    "image": chat(message(pb.ContentPart(image=pb.Image(data=b"x", media_type="image/png")), TEXT)),
    "tool turn": chat(
        message(role=pb.ROLE_ASSISTANT, tool_calls=[CALL]),
        message(pb.ContentPart(text=""), role=pb.ROLE_TOOL, tool_call_id="1"),
    ),
    "sampling": sampling(
        temperature=0,
        top_k=0,
        top_p=1,
        min_p=0,
        repetition_penalty=10,
        presence_penalty=-2,
        frequency_penalty=2,
        seed=2**64 - 1,
    ),
    "stopping": stopping(max_tokens=1, min_tokens=0, stop=["x"] * 16, stop_token_ids=[0]),
    "output": output(
        n=1, logprobs=False, top_logprobs=0, token_ids=True, prompt_token_ids=True, progress=False
    ),
    "choices": prompt(
        model="m",
        backend=pb.BACKEND_TORCH,
        precision=pb.PRECISION_INT4,
        priority=pb.PRIORITY_BATCH,
        truncation=pb.TRUNCATION_POLICY_REFUSE,
    ),
}


@pytest.mark.parametrize("request_", SOUND.values(), ids=SOUND.keys())
def test_sound_requests_pass(request_):
    check_generate(request_)


BROKEN = [
    (pb.GenerateRequest(), "input"),
    (prompt(model="m" * 257), "model"),
    (prompt(backend=9), "backend"),
    (prompt(precision=9), "precision"),
    (prompt(priority=9), "priority"),
    (prompt(truncation=9), "truncation"),
    (prompt(truncation=pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS), "truncation"),
    (output(echo=True, top_logprobs=1), "output.echo"),
    (prompt(tool_choice=pb.ToolChoice(mode=9)), "tool_choice.mode"),
    (prompt(tool_choice=pb.ToolChoice(name="add")), "tool_choice.name"),
    (chat(message(TEXT), tools=[pb.Tool(name="add"), pb.Tool()]), "tools[1].name"),
    (chat(message(TEXT), tools=[pb.Tool(name="add"), pb.Tool(name="add")]), "tools[1].name"),
    (chat(message(TEXT), tools=[pb.Tool(name="a")] * 129), "tools"),
    (prompt(tools=[pb.Tool(name="add")]), "tools"),
    (chat(message(TEXT), tool_choice=pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)), "tool_choice.mode"),
    (
        chat(
            message(TEXT),
            tools=[pb.Tool(name="add")],
            output=pb.OutputOptions(response_format=pb.ResponseFormat(regex="a")),
        ),
        "output.response_format",
    ),
    (prompt(idempotency_key="k" * 129), "idempotency_key"),
    (prompt(time_limit=duration_pb2.Duration()), "time_limit"),
    (prompt(time_limit=duration_pb2.Duration(seconds=-1)), "time_limit"),
    (prompt(resume=pb.Resume()), "resume.resumption_token"),
    (pb.GenerateRequest(prompt=""), "prompt"),
    (pb.GenerateRequest(tokens=pb.TokenInput()), "tokens.ids"),
    (chat(), "chat.messages"),
    (chat(*[message(TEXT)] * 4097), "chat.messages"),
    (chat(message(*[TEXT] * 4097)), "chat.messages"),
    (chat(message()), "chat.messages[0].parts"),
    (chat(message(role=pb.ROLE_ASSISTANT)), "chat.messages[0].parts"),
    (chat(message(TEXT), message(TEXT, role=pb.ROLE_UNSPECIFIED)), "chat.messages[1].role"),
    (chat(message(TEXT, role=9)), "chat.messages[0].role"),
    (chat(message(TEXT, pb.ContentPart())), "chat.messages[0].parts[1]"),
    (chat(message(pb.ContentPart(text=""))), "chat.messages[0].parts[0].text"),
    (chat(message(pb.ContentPart(image=pb.Image()))), "chat.messages[0].parts[0].image.data"),
    (
        chat(message(pb.ContentPart(image=pb.Image(data=b"x", media_type="text/html")))),
        "chat.messages[0].parts[0].image.media_type",
    ),
    (
        chat(message(pb.ContentPart(image=pb.Image(data=bytes(LARGEST_IMAGE + 1))))),
        "chat.messages[0].parts[0].image.data",
    ),
    (chat(message(*[PICTURE] * (MOST_IMAGES + 1))), "chat.messages"),
    (chat(message(TEXT), image_options=pb.ImageOptions()), "image_options"),
    (prompt(image_options=pb.ImageOptions(split=True)), "image_options"),
    (
        chat(message(PICTURE), image_options=pb.ImageOptions(longest_edge=0)),
        "image_options.longest_edge",
    ),
    (
        chat(message(PICTURE), image_options=pb.ImageOptions(longest_edge=5000)),
        "image_options.longest_edge",
    ),
    (chat(message(TEXT, tool_calls=[CALL])), "chat.messages[0].tool_calls"),
    (chat(message(TEXT, tool_call_id="1")), "chat.messages[0].tool_call_id"),
    (
        chat(message(role=pb.ROLE_ASSISTANT, tool_calls=[CALL, pb.ToolCall()])),
        "chat.messages[0].tool_calls[1].name",
    ),
    (stopping(max_tokens=0), "stopping.max_tokens"),
    (stopping(max_tokens=2, min_tokens=3), "stopping.min_tokens"),
    (stopping(stop=["x"] * 17), "stopping.stop"),
    (stopping(stop=["x", ""]), "stopping.stop[1]"),
    (stopping(stop=["x" * 513]), "stopping.stop[0]"),
    (stopping(stop_token_ids=range(129)), "stopping.stop_token_ids"),
    (output(n=0), "output.n"),
    (output(top_logprobs=21), "output.top_logprobs"),
    (output(response_format=pb.ResponseFormat()), "output.response_format"),
    (sampling(logit_bias={7: 100.5}), "sampling.logit_bias[7]"),
    (sampling(logit_bias={7: math.nan}), "sampling.logit_bias[7]"),
    (sampling(logit_bias=dict.fromkeys(range(1025), 0.0)), "sampling.logit_bias"),
]


@pytest.mark.parametrize(("request_", "field"), BROKEN, ids=[field for _, field in BROKEN])
def test_each_rule_names_its_field(request_, field):
    assert violated(request_) == [field]


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "temperature": (-0.1, 100.1),
        "top_p": (0, -1, 1.01),
        "min_p": (-0.1, 1.1),
        "repetition_penalty": (0, -1, 10.1),
        "presence_penalty": (-2.1, 2.1),
        "frequency_penalty": (-2.1, 2.1),
    }.items(),
)
def test_sampling_ranges(name, values):
    for value in (*values, math.nan, math.inf, -math.inf):
        assert violated(sampling(**{name: value})) == [f"sampling.{name}"]


def test_all_faults_are_found_at_once():
    request = chat(message(), message(TEXT, role=9))
    request.sampling.temperature = -1
    request.stopping.max_tokens = 0
    assert violated(request) == [
        "chat.messages[0].parts",
        "chat.messages[1].role",
        "sampling.temperature",
        "stopping.max_tokens",
    ]


def test_the_search_ends_after_enough_faults():
    request = chat(*[message(pb.ContentPart())] * 1000)
    with pytest.raises(errors.InvalidRequest) as raised:
        check_generate(request)
    assert len(raised.value.violations) == validation.MOST_VIOLATIONS
    assert raised.value.message.endswith("; and 92 more")


def test_a_stream_can_be_taken_up_by_its_key_alone():
    check_generate(prompt(idempotency_key="k", resume=pb.Resume(after_sequence=3)))


class TestCountTokens:
    def test_sound(self):
        check_count_tokens(pb.CountTokensRequest(prompt="Hi", token_ids=True))
        check_count_tokens(pb.CountTokensRequest(chat=pb.ChatInput(messages=[message(TEXT)])))

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.CountTokensRequest(), "input"),
            (pb.CountTokensRequest(prompt=""), "prompt"),
            (pb.CountTokensRequest(prompt="x", backend=9), "backend"),
            (pb.CountTokensRequest(chat=pb.ChatInput(messages=[message()])), "chat.messages[0].parts"),
            (pb.CountTokensRequest(prompt="x", tools=[pb.Tool(name="add")]), "tools"),
        ],
    )
    def test_rules(self, request_, field):
        assert violated(request_, check_count_tokens) == [field]


def test_get_model():
    validation.check_get_model(models_pb2.GetModelRequest(model="m" * 256))
    assert violated(models_pb2.GetModelRequest(model="m" * 257), validation.check_get_model) == ["model"]


def test_image_fields():
    image = pb.ContentPart(image=pb.Image(data=b"x"))
    request = chat(message(TEXT, image), message(TEXT), message(image))
    assert image_fields(request.chat) == [
        "chat.messages[0].parts[1].image",
        "chat.messages[2].parts[0].image",
    ]
