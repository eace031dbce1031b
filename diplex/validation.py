"""What a public request must satisfy whatever the model: limits and ranges.

All faults of a request are found in one pass and raised as one ``InvalidRequest``. What depends on the model,
such as images or the length of its context, is checked where the model is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from google.protobuf.descriptor import EnumDescriptor

from diplex.errors import FieldViolation, InvalidRequest
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2

LONGEST_MODEL_NAME: Final = 256
"""Characters."""
MOST_MESSAGES: Final = 4096
MOST_PARTS: Final = 4096
"""Parts of all messages together."""
MOST_IMAGES: Final = 64
"""Of all messages together."""
LARGEST_IMAGE: Final = 20 * 2**20
"""Bytes of an encoded image."""
LARGEST_EDGE: Final = 4096
"""Pixels to which an image may be scaled, whatever the model."""
MOST_STOPS: Final = 16
LONGEST_STOP: Final = 512
"""Characters of one stop string."""
MOST_STOP_TOKENS: Final = 128
MOST_CHOICES: Final = 64
MOST_TOOLS: Final = 128
MOST_TOP_LOGPROBS: Final = 20
MOST_BIASES: Final = 1024
MOST_BATCHED: Final = 4096
"""Requests of one batch."""
LONGEST_IDEMPOTENCY_KEY: Final = 128
"""Characters."""

MOST_VIOLATIONS: Final = 100
"""Faults after which nobody looks for more, so that a request full of them costs little."""

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TOLD: Final = 8
"""Faults that the error's message spells out; all are in its violations."""

Violations = Iterator[FieldViolation]


@dataclass(frozen=True, slots=True)
class _Range:
    """The values that a number may have; NaN lies in no range."""

    low: float
    high: float
    low_is_open: bool = False

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high and not (self.low_is_open and value == self.low)

    def __str__(self) -> str:
        return f"{'(' if self.low_is_open else '['}{self.low:g}, {self.high:g}]"


_SAMPLING_RANGES: Final = {
    "temperature": _Range(0, 100),
    "top_p": _Range(0, 1, low_is_open=True),
    "min_p": _Range(0, 1),
    "repetition_penalty": _Range(0, 10, low_is_open=True),
    "presence_penalty": _Range(-2, 2),
    "frequency_penalty": _Range(-2, 2),
}
_BIAS_RANGE: Final = _Range(-100, 100)


def check_generate(request: pb.GenerateRequest) -> None:
    """Refuses a generation that no model of this version can serve.

    Raises:
        InvalidRequest: Fields are missing, unknown or out of range; names all of them.
    """
    _refuse(
        _target(request.model, request.backend, request.precision),
        _input(request),
        _sampling(request.sampling),
        _stopping(request.stopping),
        _output(request.output),
        _echo(request),
        _tools(request),
        _tool_choice(request),
        _call_options(request),
        _image_options(request),
    )


def check_count_tokens(request: pb.CountTokensRequest) -> None:
    """Refuses a count that no model of this version can serve; raises as :func:`check_generate`."""
    _refuse(
        _target(request.model, request.backend, request.precision),
        _input(request),
        _tools(request),
        _image_options(request),
    )


def check_get_model(request: models_pb2.GetModelRequest) -> None:
    """Refuses a name that can't be one; raises as :func:`check_generate`."""
    _refuse(_target(request.model, pb.BACKEND_UNSPECIFIED, pb.PRECISION_UNSPECIFIED))


def check_load_or_unload(request: models_pb2.LoadModelRequest | models_pb2.UnloadModelRequest) -> None:
    """Refuses what can't name a deployment; raises as :func:`check_generate`."""
    unnamed = [] if request.model else [FieldViolation("model", "is empty")]
    _refuse(iter(unnamed), _target(request.model, request.backend, request.precision))


def image_fields(chat: pb.ChatInput) -> list[str]:
    """Paths of a conversation's images, as ``chat.messages[0].parts[1].image``."""
    return [
        f"chat.messages[{i}].parts[{j}].image"
        for i, message in enumerate(chat.messages)
        for j, part in enumerate(message.parts)
        if part.HasField("image")
    ]


def _refuse(*checks: Violations) -> None:
    violations = list(islice(chain(*checks), MOST_VIOLATIONS))
    if not violations:
        return
    told = "; ".join(f"{fault.field}: {fault.description}" for fault in violations[:_TOLD])
    more = f"; and {len(violations) - _TOLD} more" if len(violations) > _TOLD else ""
    raise InvalidRequest(told + more, violations=violations)


def _target(model: str, backend: int, precision: int) -> Violations:
    if len(model) > LONGEST_MODEL_NAME:
        yield FieldViolation(
            "model", f"has {len(model)} characters, at most {LONGEST_MODEL_NAME} are allowed"
        )
    yield from _known("backend", backend, pb.Backend.DESCRIPTOR)
    yield from _known("precision", precision, pb.Precision.DESCRIPTOR)


def _known(field: str, number: int, enum: EnumDescriptor) -> Violations:
    if number not in enum.values_by_number:
        names = ", ".join(value.name for value in enum.values)
        yield FieldViolation(field, f"{number} is unknown, one of {names} is meant")


def _input(request: pb.GenerateRequest | pb.CountTokensRequest) -> Violations:
    match request.WhichOneof("input"):
        case "chat":
            yield from _chat(request.chat)
        case "prompt":
            if not request.prompt:
                yield FieldViolation("prompt", "is empty")
        case "tokens":
            if isinstance(request, pb.GenerateRequest) and not request.tokens.ids:
                yield FieldViolation("tokens.ids", "is empty")
        case _:
            yield FieldViolation("input", "is missing, one of its fields must be set")


def _chat(chat: pb.ChatInput) -> Violations:
    if not chat.messages:
        yield FieldViolation("chat.messages", "is empty")
    if len(chat.messages) > MOST_MESSAGES:
        yield _too_many("chat.messages", len(chat.messages), MOST_MESSAGES)
        return
    parts = sum(len(message.parts) for message in chat.messages)
    if parts > MOST_PARTS:
        yield FieldViolation("chat.messages", f"has {parts} parts, at most {MOST_PARTS} are allowed")
        return
    images = len(image_fields(chat))
    if images > MOST_IMAGES:
        yield FieldViolation("chat.messages", f"has {images} images, at most {MOST_IMAGES} are allowed")
    for i, message in enumerate(chat.messages):
        yield from _message(f"chat.messages[{i}]", message)


def _message(path: str, message: pb.ChatMessage) -> Violations:
    if message.role == pb.ROLE_UNSPECIFIED:
        yield FieldViolation(f"{path}.role", "is missing")
    yield from _known(f"{path}.role", message.role, pb.Role.DESCRIPTOR)
    yield from _tool_calls(path, message)
    if not message.parts and not message.tool_calls:
        yield FieldViolation(f"{path}.parts", "is empty")
    for j, part in enumerate(message.parts):
        # A tool may well have had nothing to say; anybody else's empty text is a mistake.
        yield from _part(f"{path}.parts[{j}]", part, may_be_empty=message.role == pb.ROLE_TOOL)


def _part(path: str, part: pb.ContentPart, *, may_be_empty: bool) -> Violations:
    match part.WhichOneof("content"):
        case "text":
            if not part.text and not may_be_empty:
                yield FieldViolation(f"{path}.text", "is empty")
        case "image":
            if not part.image.data:
                yield FieldViolation(f"{path}.image.data", "is empty")
            if len(part.image.data) > LARGEST_IMAGE:
                description = f"has {len(part.image.data)} bytes, at most {LARGEST_IMAGE} are allowed"
                yield FieldViolation(f"{path}.image.data", description)
            if part.image.media_type and not part.image.media_type.startswith("image/"):
                yield FieldViolation(f"{path}.image.media_type", "is not of the form image/…")
        case _:
            yield FieldViolation(path, "has no content, text or image must be set")


def _tool_calls(path: str, message: pb.ChatMessage) -> Violations:
    if message.tool_calls and message.role != pb.ROLE_ASSISTANT:
        yield FieldViolation(f"{path}.tool_calls", "stands only in a ROLE_ASSISTANT message")
    if message.tool_call_id and message.role != pb.ROLE_TOOL:
        yield FieldViolation(f"{path}.tool_call_id", "stands only in a ROLE_TOOL message")
    for j, call in enumerate(message.tool_calls):
        if not call.name:
            yield FieldViolation(f"{path}.tool_calls[{j}].name", "is empty")


def _sampling(options: pb.SamplingOptions) -> Violations:
    for name, allowed in _SAMPLING_RANGES.items():
        if options.HasField(name):  # type: ignore[arg-type]  # the names are those of the message's fields
            yield from _within(f"sampling.{name}", getattr(options, name), allowed)
    if len(options.logit_bias) > MOST_BIASES:
        yield _too_many("sampling.logit_bias", len(options.logit_bias), MOST_BIASES)
        return
    for token, bias in options.logit_bias.items():
        yield from _within(f"sampling.logit_bias[{token}]", bias, _BIAS_RANGE)


def _within(field: str, value: float, allowed: _Range) -> Violations:
    if not allowed.holds(value):
        yield FieldViolation(field, f"{value:g} is outside {allowed}")


def _stopping(options: pb.StoppingOptions) -> Violations:
    if options.HasField("max_tokens"):
        if options.max_tokens == 0:
            yield FieldViolation("stopping.max_tokens", "0 is outside [1, …)")
        elif options.min_tokens > options.max_tokens:
            description = f"{options.min_tokens} is above max_tokens, {options.max_tokens}"
            yield FieldViolation("stopping.min_tokens", description)
    if len(options.stop_token_ids) > MOST_STOP_TOKENS:
        yield _too_many("stopping.stop_token_ids", len(options.stop_token_ids), MOST_STOP_TOKENS)
    if len(options.stop) > MOST_STOPS:
        yield _too_many("stopping.stop", len(options.stop), MOST_STOPS)
        return
    for i, text in enumerate(options.stop):
        if not 0 < len(text) <= LONGEST_STOP:
            description = f"has {len(text)} characters, 1 to {LONGEST_STOP} are allowed"
            yield FieldViolation(f"stopping.stop[{i}]", description)


def _output(options: pb.OutputOptions) -> Violations:
    if options.HasField("n"):
        yield from _within("output.n", options.n, _Range(1, MOST_CHOICES))
    yield from _within("output.top_logprobs", options.top_logprobs, _Range(0, MOST_TOP_LOGPROBS))
    if options.HasField("response_format") and not options.response_format.WhichOneof("format"):
        yield FieldViolation("output.response_format", "has no format, one of its fields must be set")


def _echo(request: pb.GenerateRequest) -> Violations:
    if not request.output.echo:
        return
    if request.HasField("chat"):
        yield FieldViolation("output.echo", "stands only beside `prompt` or `tokens`, not beside `chat`")
    if request.output.logprobs or request.output.top_logprobs:
        yield FieldViolation("output.echo", "the input has no log probabilities; ask for one of the two")


def _tools(request: pb.GenerateRequest | pb.CountTokensRequest) -> Violations:
    tools = request.tools
    if tools and not request.HasField("chat"):
        yield FieldViolation("tools", "stand only beside `chat`, whose template tells the model of them")
    if len(tools) > MOST_TOOLS:
        yield _too_many("tools", len(tools), MOST_TOOLS)
        return
    names: set[str] = set()
    for i, tool in enumerate(tools):
        if not _TOOL_NAME.fullmatch(tool.name):
            yield FieldViolation(
                f"tools[{i}].name", "must be of 1 to 64 letters, digits, underscores, dots and dashes"
            )
        elif tool.name in names:
            yield FieldViolation(f"tools[{i}].name", f"another tool is called {tool.name!r} too")
        names.add(tool.name)


def _tool_choice(request: pb.GenerateRequest) -> Violations:
    yield from _known("tool_choice.mode", request.tool_choice.mode, pb.ToolChoiceMode.DESCRIPTOR)
    if request.tools and request.output.HasField("response_format"):
        yield FieldViolation("output.response_format", "an output can't be held to it and call tools too")
    if not request.tools and request.tool_choice.mode == pb.TOOL_CHOICE_MODE_REQUIRED:
        yield FieldViolation("tool_choice.mode", "there are no tools")
    if request.tool_choice.WhichOneof("choice") == "name":
        name = request.tool_choice.name
        if all(tool.name != name for tool in request.tools):
            yield FieldViolation("tool_choice.name", f"no tool is called {name[:LONGEST_MODEL_NAME]!r}")


def _call_options(request: pb.GenerateRequest) -> Violations:
    yield from _known("truncation", request.truncation, pb.TruncationPolicy.DESCRIPTOR)
    if request.truncation == pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS and not request.HasField("chat"):
        yield FieldViolation("truncation", "only the turns of `chat` can be dropped")
    yield from _known("priority", request.priority, pb.Priority.DESCRIPTOR)
    if request.HasField("time_limit") and (request.time_limit.seconds, request.time_limit.nanos) <= (0, 0):
        yield FieldViolation("time_limit", "is not above zero")
    if len(request.idempotency_key) > LONGEST_IDEMPOTENCY_KEY:
        description = (
            f"has {len(request.idempotency_key)} characters, at most {LONGEST_IDEMPOTENCY_KEY} are allowed"
        )
        yield FieldViolation("idempotency_key", description)
    if request.HasField("resume") and not (request.resume.resumption_token or request.idempotency_key):
        yield FieldViolation("resume.resumption_token", "is empty, and there is no idempotency_key")


def _image_options(request: pb.GenerateRequest | pb.CountTokensRequest) -> Violations:
    if not request.HasField("image_options"):
        return
    if not request.HasField("chat") or not image_fields(request.chat):
        yield FieldViolation("image_options", "there are no images")
    if request.image_options.HasField("longest_edge"):
        edge = request.image_options.longest_edge
        yield from _within("image_options.longest_edge", edge, _Range(1, LARGEST_EDGE))


def _too_many(field: str, count: int, most: int) -> FieldViolation:
    return FieldViolation(field, f"has {count} entries, at most {most} are allowed")
