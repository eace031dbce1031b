"""From what a caller gives to protobuf requests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from google.protobuf.message import Message as Protobuf

from diplex import errors
from diplex.client import inputs
from diplex.client.images import Image, ImageLike
from diplex.client.inputs import Backend, GenerateOptions, Precision, Role
from diplex.v1 import generation_pb2 as pb

_BACKENDS: Final = {pb.Backend.Value(f"BACKEND_{each.name}"): each for each in Backend}
_PRECISIONS: Final = {pb.Precision.Value(f"PRECISION_{each.name}"): each for each in Precision}
_TOOL_CHOICES: Final = {
    "none": pb.TOOL_CHOICE_MODE_NONE,
    "auto": pb.TOOL_CHOICE_MODE_AUTO,
    "required": pb.TOOL_CHOICE_MODE_REQUIRED,
}


def generate_request(source: inputs.Input, options: GenerateOptions) -> pb.GenerateRequest:
    """The request that an input and options come to.

    Raises:
        InvalidRequest: A value that the message can't hold; names the field.
        TypeError: An unknown option, or options beside a ready-made request.
    """
    if unknown := options.keys() - GenerateOptions.__annotations__.keys():
        raise TypeError(f"unknown option {min(unknown)!r}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if isinstance(source, pb.GenerateRequest):
        if given:
            raise TypeError(f"a GenerateRequest is sent as it is; set {min(given)!r} in the request")
        return source
    request = pb.GenerateRequest()
    _put_route(request, given)
    if isinstance(source, inputs.TokenIds):
        _refuse_system(given.get("system"))
        _put(request.tokens, "tokens.", {"ids": source.ids}, ("ids",))
        request.tokens.SetInParent()
    else:
        _put_input(request, source, given.get("system"), given.get("images", ()))
    _put_image_options(request, given)
    _put_format(request.output, given)
    _put_tools(request, given)
    _put(request, "", given, ("idempotency_key",))
    if given.get("truncate"):
        request.truncation = pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS
    if "time_limit" in given:
        request.time_limit.FromNanoseconds(round(given["time_limit"] * 1e9))
    for path in ("sampling", "stopping", "output"):  # their fields are our options, under the same names
        part = getattr(request, path)
        _put(part, f"{path}.", given, part.DESCRIPTOR.fields_by_name)
    return request


def batch_request(sources: Iterable[inputs.Input], options: GenerateOptions) -> pb.GenerateBatchRequest:
    """The requests that inputs and options in common come to.

    Raises:
        InvalidRequest, TypeError: As :func:`generate_request`.
    """
    return pb.GenerateBatchRequest(requests=(generate_request(source, options) for source in sources))


def count_request(
    source: inputs.Countable,
    *,
    model: str | None,
    system: str | None,
    backend: Backend | str | None,
    precision: Precision | str | None,
    token_ids: bool,
    images: Sequence[ImageLike | bytes | str] | None = None,
    split_images: bool | None = None,
    longest_edge: int | None = None,
) -> pb.CountTokensRequest:
    """The request that counts an input's tokens.

    Raises:
        InvalidRequest: A value that the message can't hold; names the field.
    """
    request = pb.CountTokensRequest(token_ids=token_ids)
    named = {
        "model": model,
        "backend": backend,
        "precision": precision,
        "split_images": split_images,
        "longest_edge": longest_edge,
    }
    given = {name: value for name, value in named.items() if value is not None}
    _put_route(request, given)
    _put_input(request, source, system, images or ())
    _put_image_options(request, given)
    return request


def _put_route(request: pb.GenerateRequest | pb.CountTokensRequest, given: Mapping[str, Any]) -> None:
    _put(request, "", given, ("model",))
    if "backend" in given:
        request.backend = _number_of("backend", Backend, given["backend"], _BACKENDS)
    if "precision" in given:
        request.precision = _number_of("precision", Precision, given["precision"], _PRECISIONS)


def _put_input(
    request: pb.GenerateRequest | pb.CountTokensRequest,
    source: inputs.Countable,
    system: str | None,
    images: Sequence[ImageLike | bytes | str],
) -> None:
    if images and not isinstance(source, str):
        raise errors.InvalidRequest.of_field(
            "images", "stand only beside a prompt; put them into the messages"
        )
    if isinstance(source, inputs.RawPrompt):
        _refuse_system(system)
        _put(request, "", {"prompt": source.text}, ("prompt",))
        return
    if isinstance(source, str):
        pictures = [Image.of(each) for each in images]
        messages: list[inputs.MessageLike] = [inputs.Message(Role.USER, [*pictures, source])]
    else:
        messages = list(source)
    if system is not None:
        messages.insert(0, inputs.Message(Role.SYSTEM, system))
    request.chat.SetInParent()
    for index, message in enumerate(messages):
        _put_message(request.chat.messages.add(), f"chat.messages[{index}]", message)


def _put_image_options(request: pb.GenerateRequest | pb.CountTokensRequest, given: Mapping[str, Any]) -> None:
    options = {"split": given.get("split_images"), "longest_edge": given.get("longest_edge")}
    wanted = {name: value for name, value in options.items() if value is not None}
    _put(request.image_options, "image_options.", wanted, wanted)


def _put_tools(request: pb.GenerateRequest, given: Mapping[str, Any]) -> None:
    for index, tool in enumerate(given.get("tools", ())):
        schema = tool.parameters
        values = {
            "name": tool.name,
            "description": tool.description,
            "parameters_schema": schema if isinstance(schema, str) else json.dumps(schema),
        }
        _put(request.tools.add(), f"tools[{index}].", values, values)
    choice = given.get("tool_choice")
    if choice in _TOOL_CHOICES:
        request.tool_choice.mode = _TOOL_CHOICES[choice]
    elif choice is not None:
        _put(request.tool_choice, "tool_choice.", {"name": choice}, ("name",))
    if given.get("constrained"):
        request.tool_choice.constrained = True
    if given.get("single_call"):
        request.tool_choice.single = True


def _put_format(output: pb.OutputOptions, given: Mapping[str, Any]) -> None:
    wanted = [
        name for name in ("json", "json_schema", "regex", "grammar") if given.get(name) not in (None, False)
    ]
    if len(wanted) > 1:
        raise errors.InvalidRequest.of_field(wanted[1], f"an output can't be held to it and to {wanted[0]}")
    for name in wanted:
        value = given[name]
        if name == "json":
            output.response_format.json.SetInParent()
        else:
            text = json.dumps(value) if isinstance(value, Mapping) else value
            _put(output.response_format, "", {name: text}, (name,))


def _refuse_system(system: str | None) -> None:
    if system is not None:
        raise errors.InvalidRequest.of_field(
            "system", "a raw prompt and token ids take no system message; put it into the prompt"
        )


def _put_message(target: pb.ChatMessage, path: str, message: inputs.MessageLike) -> None:
    given = inputs.message(message, path)
    target.role = pb.Role.Value(f"ROLE_{Role(given.role).name}")
    for index, call in enumerate(given.tool_calls):
        made = {"id": call.id, "name": call.name, "arguments": call.arguments}
        _put(target.tool_calls.add(), f"{path}.tool_calls[{index}].", made, made)
    _put(target, f"{path}.", {"tool_call_id": given.tool_call_id}, ("tool_call_id",))
    content = given.content
    parts = content if isinstance(content, Sequence) and not isinstance(content, str | bytes) else [content]
    if parts == [""] and given.tool_calls:
        parts = []
    for index, part in enumerate(parts):
        here = f"{path}.parts[{index}]"
        if isinstance(part, str):
            _put(target.parts.add(), f"{here}.", {"text": part}, ("text",))
        else:
            picture = _image(part, here)
            values = {"data": picture.data, "media_type": picture.media_type}
            _put(target.parts.add().image, f"{here}.image.", values, values)


def _image(part: ImageLike | bytes, path: str) -> Image:
    try:
        return Image.of(part)
    except errors.InvalidRequest as error:
        raise errors.InvalidRequest.of_field(path, error.violations[0].description) from error


def _put(target: Protobuf, path: str, given: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if name not in given:
            continue
        value = given[name]
        try:
            if isinstance(value, Mapping):
                getattr(target, name).update(value)
            elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
                getattr(target, name).extend(value)
            else:
                setattr(target, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise errors.InvalidRequest.of_field(f"{path}{name}", f"can't be {_short(value)}") from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"  # noqa: PLR2004  # what fits an error's line


def _number_of(name: str, kind: type[Backend | Precision], value: str, numbers: Mapping[Any, object]) -> Any:
    try:
        member = kind(value)
    except ValueError:
        known = ", ".join(each for each in kind if each != "unspecified")
        raise errors.InvalidRequest.of_field(name, f"is {value!r}; must be one of {known}") from None
    return next(number for number, each in numbers.items() if each is member)


# ---------------------------------------------------------------------------------- from protobuf
