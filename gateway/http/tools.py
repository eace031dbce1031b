"""Tools and the choice among them: from OpenAI's JSON to the protos."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from diplex.v1 import generation_pb2 as pb
from gateway.http.parsing import Fields

_MODES: Final = {
    "none": pb.TOOL_CHOICE_MODE_NONE,
    "auto": pb.TOOL_CHOICE_MODE_AUTO,
    "required": pb.TOOL_CHOICE_MODE_REQUIRED,
}


class Function(Fields):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments.")
    strict: bool | None = Field(None, description="Changes nothing: arguments always follow the schema.")


class Tool(Fields):
    """A tool."""

    type: Literal["function"]
    function: Function


class NamedFunction(Fields):
    """One of the functions."""

    name: str


def _as_object(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class ToolChoice(Fields):
    """Whether and what to call."""

    type: Literal["none", "auto", "required", "function"]
    function: NamedFunction | None = None

    @model_validator(mode="after")
    def _named(self) -> ToolChoice:
        if (self.type == "function") != (self.function is not None):
            raise ValueError("`function` names the function if the type is `function`, and only then")
        return self


AnyToolChoice = Annotated[
    ToolChoice | None,
    BeforeValidator(
        _as_object, json_schema_input_type=Literal["none", "auto", "required"] | ToolChoice | None
    ),
]


def add_tools(
    request: pb.GenerateRequest,
    tools: list[Tool] | None,
    choice: ToolChoice | None,
    *,
    parallel: bool | None,
    constrained: bool | None,
) -> None:
    """Puts tools into a request.

    Args:
        request: Is changed.
        tools: Those that there are.
        choice: Whether and what to call.
        parallel: Whether several calls an answer are allowed; ``None``: they are.
        constrained: Whether a model that knows no tools is to be held to a call's form.
    """
    for tool in tools or ():
        function = tool.function
        schema = "" if function.parameters is None else _text(function.parameters)
        request.tools.add(
            name=function.name, description=function.description or "", parameters_schema=schema
        )
    chosen = request.tool_choice
    if choice and choice.function:
        chosen.name = choice.function.name
    elif choice:
        chosen.mode = _MODES[choice.type]
    if parallel is False:
        chosen.single = True
    if constrained:
        chosen.constrained = True


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)
