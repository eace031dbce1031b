"""Tools that a request offers, and what a call of one looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diplex.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call."""

    name: str
    description: str
    parameters: str
    """JSON text of the JSON Schema of its arguments; empty for any object."""

    def schema(self, field: str) -> dict[str, Any]:
        """The schema of its arguments.

        Args:
            field: Field of the request that holds it, for errors.

        Raises:
            InvalidRequest: It is no JSON object.
        """
        try:
            schema = json.loads(self.parameters or '{"type": "object"}')
        except (ValueError, RecursionError) as error:
            raise InvalidRequest.of_field(field, f"is no JSON: {error}") from error
        if not isinstance(schema, dict):
            raise InvalidRequest.of_field(field, "is no JSON object, as the schema of arguments has to be")
        return schema


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What a generation may do with tools."""

    tools: tuple[Tool, ...]
    """Those that may be called, one at least."""
    required: bool = False
    """Whether one has to be called at once."""
    own_format: bool = True
    """Whether calls are written as the model was trained to; else as bare JSON."""


def as_functions(tools: Sequence[Tool]) -> list[Mapping[str, object]]:
    """Tools as chat templates expect them.

    Raises:
        InvalidRequest: A schema is no JSON object.
    """
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.schema(schema_field(index)),
            },
        }
        for index, tool in enumerate(tools)
    ]


def call_schema(tools: Sequence[Tool]) -> str:
    """JSON text of the schema of a call: the name of a tool, then its arguments.

    Raises:
        InvalidRequest: A schema is no JSON object.
    """
    options = []
    for index, tool in enumerate(tools):
        arguments = _moved(tool.schema(schema_field(index)), f"#/anyOf/{index}/properties/arguments")
        properties = {"name": {"const": tool.name}, "arguments": arguments}
        options.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return json.dumps({"anyOf": options})


def schema_field(index: int) -> str:
    """Field of a request that holds a tool's schema."""
    return f"tools[{index}].parameters_schema"


def _moved(schema: Any, root: str) -> Any:
    """A schema whose references into itself hold where its root is somewhere inside another one."""
    if isinstance(schema, dict):
        moved = {name: _moved(value, root) for name, value in schema.items()}
        reference = schema.get("$ref")
        if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            moved["$ref"] = root + reference[1:]
        return moved
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    return schema
