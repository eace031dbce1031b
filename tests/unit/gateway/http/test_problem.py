"""Errors in OpenAI's shape."""

import json

import pytest

from diplex import errors, status
from gateway.http import problem


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("sampling.temperature", "temperature"),
        ("sampling.logit_bias[7]", "logit_bias[7]"),
        ("stopping.stop[0]", "stop[0]"),
        ("output.response_format", "response_format"),
        ("chat.messages", "messages"),
        ("chat.messages[3]", "messages[3]"),
        ("chat.messages[1].role", "messages[1].role"),
        ("chat.messages[1].tool_calls[0].name", "messages[1].tool_calls[0].name"),
        ("chat.messages[1].parts", "messages[1].content"),
        ("chat.messages[1].parts[0].image.data", "messages[1].content[0]"),
        ("tools[2].name", "tools[2].function.name"),
        ("tools[2].parameters_schema", "tools[2].function.parameters"),
        ("tool_choice.mode", "tool_choice"),
        ("tokens.ids", "prompt"),
        ("tokens.ids[4]", "prompt[4]"),
        ("idempotency_key", "idempotency-key"),
        ("model", "model"),
    ],
)
def test_names_of_fields(field, name):
    assert problem.json_name(field) == name


def test_an_invalid_request_speaks_of_json():
    error = errors.ContextLengthExceeded(
        "stopping.max_tokens: is too much",
        violations=[errors.FieldViolation("stopping.max_tokens", "is too much")],
    )
    renamed = problem.in_json_names(error)
    assert isinstance(renamed, errors.ContextLengthExceeded)
    told = problem.as_object(renamed)
    assert (told["message"], told["param"]) == ("max_tokens: is too much", "max_tokens")


@pytest.mark.parametrize("kind", status.CLASSES)
def test_every_error_has_a_shape(kind):
    told = json.loads(problem.body(kind("it broke")))["error"]
    assert told["message"] == "it broke"
    assert told["diplex"]["reason"] == kind.reason
    assert told["code"] == told["code"].lower()
    headers = dict(problem.headers(kind("it broke")))
    assert headers[b"x-should-retry"] == (b"false" if kind.retry_seconds is None else b"true")
    assert (b"retry-after" in headers) == (kind.retry_seconds is not None)


def test_a_pause_is_told_in_whole_seconds_and_exactly():
    headers = dict(problem.headers(errors.QueueFull("full", retry_after=0.2502)))
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"251")


def test_limits_are_told():
    error = errors.RateLimited("fast", exceeded=[errors.QuotaViolation("key:ann", "60 a minute")])
    assert problem.as_object(error)["diplex"]["exceeded"] == [
        {"subject": "key:ann", "description": "60 a minute"}
    ]
