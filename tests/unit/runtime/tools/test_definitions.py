"""Schemas of calls, and how models are told of tools."""

from __future__ import annotations

import json

import jsonschema
import pytest

from diplex.errors import InvalidRequest
from workers.runtime.tools.definitions import Tool, as_functions, call_schema
from workers.runtime.tools.prompting import introduced, written_out

TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
TOOLS = (Tool("clock", "Tells the time.", ""), Tool("tree", "", json.dumps(TREE)))


def test_a_call_is_of_one_tool_with_its_arguments():
    schema = json.loads(call_schema(TOOLS))
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"name": "clock", "arguments": {"any": 1}})
    assert validator.is_valid({"name": "tree", "arguments": {"root": {"next": {}}}})
    assert not validator.is_valid({"name": "tree", "arguments": {"root": {"next": 1}}})
    assert not validator.is_valid({"name": "tree", "arguments": {}})
    assert not validator.is_valid({"name": "other", "arguments": {}})
    assert not validator.is_valid({"name": "clock"})


@pytest.mark.parametrize("schema", ["{", "[]", "1"])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidRequest) as raised:
        as_functions([Tool("a", "", ""), Tool("b", "", schema)])
    assert [violation.field for violation in raised.value.violations] == ["tools[1].parameters_schema"]


def test_a_model_without_tools_is_told_of_them_by_the_system():
    user = {"role": "user", "content": "Hi"}
    told = introduced([user], TOOLS)
    assert [message["role"] for message in told] == ["system", "user"]
    assert all(tool.name in told[0]["content"] for tool in TOOLS)
    again = introduced([{"role": "system", "content": "Be kind."}, user], TOOLS)
    assert again[0]["content"].startswith("Be kind.\n\n")
    assert len(again) == 2


def test_calls_are_written_out():
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    assert json.loads(written_out(message)["content"]) == {"name": "clock", "arguments": {"a": 1}}
    assert written_out({"role": "user", "content": "Hi"}) == {"role": "user", "content": "Hi"}


def test_parts_stay_parts():
    parts = [{"type": "image"}, {"type": "text", "text": "see"}]
    (first, *_) = introduced([{"role": "system", "content": parts}], [Tool("add", "", "")])
    assert first["content"][:2] == parts
    assert "You can call functions." in first["content"][2]["text"]
    calls = [{"function": {"name": "add", "arguments": {}}}]
    message = written_out({"role": "assistant", "content": parts, "tool_calls": calls})
    assert message["content"] == [*parts, {"type": "text", "text": '\n{"name": "add", "arguments": {}}'}]
