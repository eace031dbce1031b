"""The messages of a chat: from OpenAI's JSON to the protos."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from gateway.http.images import Images
from gateway.http.parsing import Fields

_ROLES: Final = {
    "system": pb.ROLE_SYSTEM,
    "developer": pb.ROLE_SYSTEM,
    "user": pb.ROLE_USER,
    "assistant": pb.ROLE_ASSISTANT,
    "tool": pb.ROLE_TOOL,
}


class ImageUrl(Fields):
    """Where an image is."""

    url: str = Field(description="`data:image/png;base64,…`; others where the gateway allows their host.")
    detail: Literal["auto", "low", "high"] | None = Field(
        None, description="`high`: as `image_options.split`; all images of a request alike."
    )


class Part(Fields):
    """A piece of a message."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class FunctionCall(Fields):
    """A call that was made."""

    name: str
    arguments: str = Field(description="JSON text.")


class ToolCall(Fields):
    """A call of an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


def _parts(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


class Message(Fields):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        list[Part] | None, BeforeValidator(_parts, json_schema_input_type=str | list[Part] | None)
    ] = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = Field(None, description="Only of a `tool` message: no template tells models of names.")
    refusal: None = None
    annotations: list[Any] | None = Field(None, max_length=0)
    audio: None = None
    function_call: None = None


async def chat_of(messages: list[Message], images: Images) -> pb.ChatInput:
    """A conversation as the core takes it.

    Args:
        messages: As they were parsed; each becomes one message, each part one part.
        images: Gives the bytes of images.

    Raises:
        InvalidRequest: A part lacks what its type is about, or an image is none.
    """
    chat = pb.ChatInput()
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if message.name is not None and message.role != "tool":
            raise InvalidRequest.of_field(f"{path}.name", "isn't served: put the name into the content")
        added = chat.messages.add(role=_ROLES[message.role], tool_call_id=message.tool_call_id or "")
        for call in message.tool_calls or ():
            function = call.function
            added.tool_calls.add(id=call.id, name=function.name, arguments=function.arguments)
        for place, part in enumerate(message.content or ()):
            # Beside calls, an empty text says nothing.
            if not (added.tool_calls and part.text == ""):
                added.parts.append(await _part(part, f"{path}.content[{place}]", images))
    return chat


async def _part(part: Part, path: str, images: Images) -> pb.ContentPart:
    given = {"text": part.text, "image_url": part.image_url}
    if given.pop(part.type) is None or any(value is not None for value in given.values()):
        raise InvalidRequest.of_field(
            path, f"a part of the type {part.type} has `{part.type}` and nothing else"
        )
    if part.image_url is None:
        return pb.ContentPart(text=part.text or "")
    return pb.ContentPart(image=await images.find(part.image_url.url, f"{path}.image_url.url"))


def split_wanted(messages: list[Message]) -> bool | None:
    """Whether the images are to be seen in tiles, by their ``detail``; ``None`` if that isn't said.

    Raises:
        InvalidRequest: Some are and some aren't.
    """
    details = {
        part.image_url.detail == "high"
        for message in messages
        for part in message.content or ()
        if part.image_url
    }
    if len(details) > 1:
        raise InvalidRequest.of_field(
            "messages", "`detail` is `high` of some images; it must be of all or none"
        )
    return True if details == {True} else None
