"""The document of the HTTP edge."""

from typing import get_args

import jsonschema
import pytest

from diplex.v1 import generation_pb2 as pb
from gateway.http import openapi
from gateway.http.chat_request import ChatRequest
from gateway.http.completion_request import CompletionRequest
from gateway.http.fields import GenerationFields
from gateway.http.responses_request import ResponsesRequest

DOCUMENT = openapi.document()


def schema_of(path):
    body = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return body | {"components": DOCUMENT["components"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "Hi"}], "stop": "x", "tool_choice": "auto"},
        ),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        ),
        ("/v1/completions", {"prompt": [[1, 2], [3]], "logit_bias": {"7": 1.5}}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/responses", {"input": "Hi", "tool_choice": {"type": "function", "name": "f"}}),
    ],
)
def test_it_allows_what_is_served(path, body):
    schema = schema_of(path)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(body, schema)


def test_it_knows_no_other_fields():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"prompt": "Hi", "foo": 1}, schema_of("/v1/completions"))


@pytest.mark.parametrize("body", [GenerationFields, ChatRequest, CompletionRequest, ResponsesRequest])
def test_every_field_is_described(body):
    assert [name for name, told in openapi.fields_of(body) if not told and name != "messages"] == []


def test_every_precision_can_be_asked_for():
    field = GenerationFields.model_fields["precision"]
    [names] = [get_args(kind) for kind in get_args(field.annotation) if get_args(kind)]
    known = {name.removeprefix("PRECISION_").lower() for name in pb.Precision.keys()}  # noqa: SIM118  # no dict
    assert set(names) == known - {"unspecified"}


def test_the_page_names_everything():
    page = openapi.page()
    for operation in openapi.OPERATIONS:
        assert operation.path in page
    assert "max_completion_tokens" in page
