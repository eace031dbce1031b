"""The items that ``/v1/responses`` takes as its input, as the messages of a chat."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from diplex.errors import InvalidRequest
from gateway.http.parsing import Fields

Plain = dict[str, Any]

_STATUS = Literal["in_progress", "completed", "incomplete"]
_KEYS: Final = {
    "message": {"role", "content"},
    "function_call": {"call_id", "name", "arguments"},
    "function_call_output": {"call_id", "output"},
}
"""Type of an item -> the fields that it must have."""


class InputPart(Fields):
    """A piece of a message, or of what a tool gave."""

    type: Literal["input_text", "output_text", "input_image"]
    text: str | None = None
    image_url: str | None = None
    detail: Literal["auto", "low", "high"] | None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    logprobs: list[Any] | None = None

    def as_part(self, path: str) -> Plain:
        """The same in a chat.

        Raises:
            InvalidRequest: It lacks what its type is about.
        """
        if self.type == "input_image":
            if self.image_url is None:
                raise InvalidRequest.of_field(path, "has no image_url; nothing is uploaded to this server")
            return {"type": "image_url", "image_url": {"url": self.image_url, "detail": self.detail}}
        if self.text is None:
            raise InvalidRequest.of_field(path, "has no text")
        return {"type": "text", "text": self.text}


def _parts(value: Any) -> Any:
    return [{"type": "input_text", "text": value}] if isinstance(value, str) else value


_Parts = Annotated[
    list[InputPart] | None, BeforeValidator(_parts, json_schema_input_type=str | list[InputPart] | None)
]


class InputItem(Fields):
    """A message, a call that an earlier answer made, or what came of it."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    id: str | None = None
    status: _STATUS | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: _Parts = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = Field(None, description="JSON text.")
    output: _Parts = None


def as_messages(items: list[InputItem], instructions: str | None) -> list[Plain]:
    """The messages of a chat.

    Raises:
        InvalidRequest: An item lacks what its type is about, or has more.
    """
    messages: list[Plain] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    for index, item in enumerate(items):
        _add(messages, item, f"input[{index}]")
    return messages


def _add(messages: list[Plain], item: InputItem, path: str) -> None:
    given = item.model_dump(exclude={"type", "id", "status", "phase"}, exclude_none=True).keys()
    needed = _KEYS[item.type]
    if given != needed:
        raise InvalidRequest.of_field(path, f"a {item.type} has {', '.join(sorted(needed))} and nothing else")
    if item.type == "function_call":
        # Calls of one answer are items beside each other, behind its text.
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": None})
        function = {"name": item.name, "arguments": item.arguments}
        calls = messages[-1].setdefault("tool_calls", [])
        calls.append({"id": item.call_id, "type": "function", "function": function})
        return
    content = item.output if item.type == "function_call_output" else item.content
    message: Plain = {
        "role": item.role or "tool",
        "content": [part.as_part(f"{path}.content[{place}]") for place, part in enumerate(content or ())],
    }
    if item.call_id is not None:
        message["tool_call_id"] = item.call_id
    messages.append(message)
