"""Schemas of calls, and how models are told of tools."""

from __future__ import annotations

import json

import jsonschema
import pytest

from diplex.errors import InvalidRequest
from workers.runtime.tools.definitions import Tool, ToolUse, as_functions, call_schema
from workers.runtime.tools.forms import HERMES, LLAMA, MISTRAL, UNTRAINED, UNTRAINED_LIST
from workers.runtime.tools.prompting import introduced, written_out

TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
}
TOOLS = (Tool("clock", "Tells the time.", ""), Tool("tree", "", json.dumps(TREE)))


@pytest.mark.parametrize("form", [HERMES, UNTRAINED])
def test_a_call_is_of_one_tool_with_its_arguments(form):
    schema = json.loads(call_schema(TOOLS, form, single=False))
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"name": "clock", "arguments": {"any": 1}})
    assert validator.is_valid({"name": "tree", "arguments": {"root": {"next": {}}}})
    assert not validator.is_valid({"name": "tree", "arguments": {"root": {"next": 1}}})
    assert not validator.is_valid({"name": "tree", "arguments": {}})
    assert not validator.is_valid({"name": "other", "arguments": {}})
    assert not validator.is_valid({"name": "clock"})


def test_several_calls_stand_in_a_list_if_the_form_has_one():
    calls = [{"name": "clock", "arguments": {}}, {"name": "tree", "arguments": {"root": {}}}]
    for form, alone in ((MISTRAL, False), (UNTRAINED_LIST, True)):
        several, single = (
            jsonschema.Draft202012Validator(json.loads(call_schema(TOOLS, form, single=single)))
            for single in (False, True)
        )
        assert several.is_valid(calls)
        assert not single.is_valid(calls)
        assert single.is_valid(calls[:1])
        assert not several.is_valid([*calls, {"name": "tree", "arguments": {}}])
        assert several.is_valid(calls[0]) is alone


def test_arguments_have_the_name_that_the_form_gives_them():
    validator = jsonschema.Draft202012Validator(json.loads(call_schema(TOOLS, LLAMA, single=True)))
    assert validator.is_valid({"name": "tree", "parameters": {"root": {"next": {}}}})
    assert not validator.is_valid({"name": "tree", "parameters": {"root": {"next": 1}}})


@pytest.mark.parametrize("schema", ["{", "[]", "1"])
def test_what_is_no_schema_is_refused(schema):
    with pytest.raises(InvalidRequest) as raised:
        as_functions([Tool("a", "", ""), Tool("b", "", schema)])
    assert [violation.field for violation in raised.value.violations] == ["tools[1].parameters_schema"]


def test_a_model_without_tools_is_told_of_them_by_the_system():
    user = {"role": "user", "content": "Hi"}
    told = introduced([user], ToolUse(TOOLS))
    assert [message["role"] for message in told] == ["system", "user"]
    assert all(tool.name in told[0]["content"] for tool in TOOLS)
    assert "several" in told[0]["content"]
    again = introduced([{"role": "system", "content": "Be kind."}, user], ToolUse(TOOLS, single=True))
    assert again[0]["content"].startswith("Be kind.\n\n")
    assert "several" not in again[0]["content"]
    assert len(again) == 2


def test_calls_are_written_out():
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": {"a": 1}}}
    message = {"role": "assistant", "content": "", "tool_calls": [call]}
    assert json.loads(written_out(message)["content"]) == {"name": "clock", "arguments": {"a": 1}}
    several = written_out({**message, "tool_calls": [call, call]})
    assert json.loads(several["content"]) == [call["function"]] * 2
    assert written_out({"role": "user", "content": "Hi"}) == {"role": "user", "content": "Hi"}


def test_parts_stay_parts():
    parts = [{"type": "image"}, {"type": "text", "text": "see"}]
    (first, *_) = introduced([{"role": "system", "content": parts}], ToolUse((Tool("add", "", ""),)))
    assert first["content"][:2] == parts
    assert "You can call functions." in first["content"][2]["text"]
    calls = [{"function": {"name": "add", "arguments": {}}}]
    message = written_out({"role": "assistant", "content": parts, "tool_calls": calls})
    assert message["content"] == [*parts, {"type": "text", "text": '\n{"name": "add", "arguments": {}}'}]
