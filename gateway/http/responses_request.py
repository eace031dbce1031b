"""What ``/v1/responses`` takes: a chat in other words, of which nothing is kept."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from gateway.http.chat_request import ChatRequest
from gateway.http.fields import Count, GenerationFields, ImageOptions
from gateway.http.parsing import Fields
from gateway.http.responses_input import InputItem, as_messages

_NOT_KEPT: Final = "nothing is kept here; send the whole conversation as `input`, and `store: false`"
REFUSED: Final = {
    "background": "leave it out",
    "conversation": _NOT_KEPT,
    "max_tool_calls": "leave it out",
    "n": "one answer a request; /v1/chat/completions has `n`",
    "previous_response_id": _NOT_KEPT,
    "prompt": "send `input`",
    "reasoning": "leave it out",
    "response_format": "send `text`",
}
"""Fields that OpenAI knows and we don't serve, with what to do instead."""


class FunctionTool(Fields):
    """A function that the model may call."""

    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON Schema of the arguments.")
    strict: bool | None = Field(None, description="Changes nothing: arguments always follow the schema.")


def _as_object(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


class NamedChoice(Fields):
    """Whether and what to call."""

    type: Literal["none", "auto", "required", "function"]
    name: str | None = None

    @model_validator(mode="after")
    def _named(self) -> NamedChoice:
        if (self.type == "function") != (self.name is not None):
            raise ValueError("`name` names the function if the type is `function`, and only then")
        return self


class TextFormat(Fields):
    """What the output is held to."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="Changes nothing: the output always follows the schema.")


class TextOptions(Fields):
    """About the text of the answer."""

    format: TextFormat | None = None


def _items(value: Any) -> Any:
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


class ResponsesRequest(GenerationFields):
    """An input to answer."""

    input: Annotated[
        list[InputItem], BeforeValidator(_items, json_schema_input_type=str | list[InputItem])
    ] = Field(description="A text, or messages, calls and what came of them.")
    instructions: str | None = Field(None, description="The system message.")
    max_output_tokens: Count | None = Field(None, description="Not set: as many as the context holds.")
    text: TextOptions | None = Field(None, description="`format`: `text`, `json_object` or `json_schema`.")
    tools: list[FunctionTool] | None = Field(None, description="Functions that the model may call.")
    tool_choice: Annotated[
        NamedChoice | None,
        BeforeValidator(
            _as_object, json_schema_input_type=Literal["none", "auto", "required"] | NamedChoice | None
        ),
    ] = Field(None, description="`none`, `auto`, `required`, or a function.")
    parallel_tool_calls: bool | None = Field(None, description="`false`: one call an answer.")
    include: list[Literal["message.output_text.logprobs"]] | None = Field(
        None, description="Log probabilities of the tokens; nothing else."
    )
    top_logprobs: Count | None = Field(None, description="Those of the most probable ones too, up to 20.")
    truncation: Literal["auto", "disabled"] | None = Field(
        None, description="`auto`: the oldest turns are dropped from what is longer than the context."
    )
    constrained_tool_calls: bool | None = Field(None, description="As in chats.")
    image_options: ImageOptions | None = Field(None, description="`split`, `longest_edge`.")

    def as_chat(self) -> ChatRequest:
        """The chat that means the same.

        Raises:
            InvalidRequest: An item of the input can't be understood.
        """
        shared = {name: getattr(self, name) for name in GenerationFields.model_fields}
        schema = self.text.format if self.text else None
        return ChatRequest.model_validate(
            {
                **{name: _plain(value) for name, value in shared.items() if value is not None},
                "messages": as_messages(self.input, self.instructions),
                "max_completion_tokens": self.max_output_tokens,
                "logprobs": True if self.include or self.top_logprobs else None,
                "top_logprobs": self.top_logprobs,
                "response_format": _response_format(schema) if schema else None,
                "tools": [_tool(tool) for tool in self.tools] if self.tools else None,
                "tool_choice": _choice(self.tool_choice) if self.tool_choice else None,
                "parallel_tool_calls": self.parallel_tool_calls,
                "truncation": {"auto": "drop_oldest_turns", "disabled": "refuse"}.get(self.truncation or ""),
                "constrained_tool_calls": self.constrained_tool_calls,
                "image_options": _plain(self.image_options),
            }
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):  # of biases, whose keys JSON has as texts
        return {str(key): each for key, each in value.items()}
    return value.model_dump(by_alias=True) if isinstance(value, Fields) else value


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"})}


def _choice(choice: NamedChoice) -> dict[str, Any]:
    if choice.name is None:
        return {"type": choice.type}
    return {"type": "function", "function": {"name": choice.name}}


def _response_format(text: TextFormat) -> dict[str, Any]:
    if text.type != "json_schema":
        return {"type": text.type}
    return {"type": "json_schema", "json_schema": text.model_dump(exclude={"type"}, by_alias=True)}
