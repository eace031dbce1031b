"""Tools that a request offers, and what a call of one looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from diplex.errors import InvalidRequest
from workers.runtime.tools.forms import CallForm

MOST_CALLS: Final = 64
"""Most calls of one answer."""


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
    single: bool = False
    """Whether an answer makes one call at most."""


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


def call_schema(tools: Sequence[Tool], form: CallForm, *, single: bool) -> str:
    """JSON text of the schema of what the form has as JSON: a call, or a list of calls.

    A call is the name of a tool, then its arguments. Models without a form may write either.

    Raises:
        InvalidRequest: A schema is no JSON object.
    """
    options = []
    for index, tool in enumerate(tools):
        root = f"#/$defs/call/anyOf/{index}/properties/{form.arguments}"
        arguments = _moved(tool.schema(schema_field(index)), root)
        options.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, form.arguments: arguments},
                "required": ["name", form.arguments],
                "additionalProperties": False,
            }
        )
    call = {"$ref": "#/$defs/call"}
    most = 1 if single else MOST_CALLS
    several = {"type": "array", "items": call, "minItems": 1, "maxItems": most}
    whole: dict[str, Any] = {"anyOf": [call, several]} if form.bare else several
    return json.dumps({"$defs": {"call": {"anyOf": options}}, **(whole if form.listed else call)})


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
