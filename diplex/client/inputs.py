"""What a caller gives: prompts, messages, images and options, without protobuf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from diplex.client.images import Image, ImageLike, PillowImage
from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb


class Role(StrEnum):
    """Who speaks in a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class Backend(StrEnum):
    """What runs a model."""

    UNSPECIFIED = "unspecified"
    ONNX = "onnx"
    TORCH = "torch"


class Precision(StrEnum):
    """How a model's weights are held."""

    UNSPECIFIED = "unspecified"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    Q4 = "q4"
    Q4_MIXED = "q4_mixed"
    Q4F16 = "q4f16"


Content: TypeAlias = str | bytes | ImageLike | Sequence[str | bytes | ImageLike]
"""A message's content: text, a picture, or parts of both in order. Bytes are an encoded picture."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool that a model made."""

    id: str
    name: str
    arguments: str
    """JSON text."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: Role | str
    content: Content
    tool_calls: Sequence[ToolCall] = ()
    """Calls that an assistant's turn made."""
    tool_call_id: str = ""
    """In a tool's message: the call that it is the result of."""


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """Text that reaches the model as it is, without a chat template."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Token ids of the model's own vocabulary, used as they are."""

    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] | str = ""
    """JSON Schema of its arguments; empty for any object."""


MessageLike: TypeAlias = Message | Mapping[str, object]
"""A message, or a mapping with its fields."""


def message(given: MessageLike, path: str) -> Message:
    """What a message says, who says it, and what it has to do with tools.

    Raises:
        InvalidRequest: It is not made like a message; names the field behind ``path``.
    """
    if isinstance(given, Mapping):
        fields = {"content": "", **given}
        if unknown := fields.keys() - {"role", "content", "tool_calls", "tool_call_id"}:
            raise InvalidRequest.of_field(f"{path}.{min(unknown)}", "is no key of a message")
        if "content" not in given and not given.get("tool_calls"):
            raise InvalidRequest.of_field(f"{path}.content", "must be text, an Image, or a list of both")
        given = Message(fields.pop("role", None), **fields)  # type: ignore[arg-type]  # looked at below
    if given.role not in list(Role):
        raise InvalidRequest.of_field(f"{path}.role", f"is {given.role!r}; must be one of {', '.join(Role)}")
    if not isinstance(given.content, str | Image | os.PathLike | PillowImage | Sequence):
        raise InvalidRequest.of_field(f"{path}.content", "must be text, an Image, or a list of both")
    return given


Conversation: TypeAlias = str | Sequence[MessageLike]
"""One user message's text, or the messages of a conversation in order."""

Countable: TypeAlias = Conversation | RawPrompt
"""What :meth:`Client.count_tokens` counts."""

Input: TypeAlias = Countable | TokenIds | pb.GenerateRequest
"""What :meth:`Client.generate` generates from. A ready-made protobuf request is sent as it is."""


class GenerateOptions(TypedDict, total=False):
    """Keyword arguments of ``generate`` and ``stream``. Absent or ``None``: the model's own default.

    The server refuses what is out of range with :class:`diplex.errors.InvalidRequest`.
    """

    model: str | None
    """Name or alias; optionally with a precision behind a slash. Default: the gateway's default model."""
    idempotency_key: str | None
    """Names the generation: a repeated call with the same key gets the same one, while the gateway has it. It
    goes on for a while when its client is gone, so cancelling doesn't end it at once."""
    system: str | None
    """Text of a system message, put before the messages."""
    backend: Backend | str | None
    """``"onnx"`` or ``"torch"``. Default: the gateway chooses."""
    precision: Precision | str | None
    """One of :class:`Precision`, as ``"int8"``. Default: the model's default profile."""

    temperature: float | None
    """0 is greedy. Range [0, 100]."""
    top_k: int | None
    """Keep the k most probable tokens; 0 keeps all."""
    top_p: float | None
    """Keep the smallest set of tokens whose probability reaches p. Range (0, 1]."""
    min_p: float | None
    """Keep tokens at least min_p times as probable as the most probable one. Range [0, 1]."""
    repetition_penalty: float | None
    """Divides the logits of tokens that stand in prompt or output. Range (0, 10]; 1 is off."""
    presence_penalty: float | None
    """Subtracted from the logits of tokens that stand in the output. Range [-2, 2]."""
    frequency_penalty: float | None
    """Subtracted once for each time a token stands in the output. Range [-2, 2]."""
    seed: int | None
    """Makes sampling repeatable. Default: chosen by the server and told in the receipt."""
    logit_bias: Mapping[int, float] | None
    """Token id to a number that is added to its logit. Range [-100, 100]."""

    images: Sequence[ImageLike | bytes | str] | None
    """Pictures that a prompt given as a string is about: put before it. Bytes, paths, images of Pillow."""
    split_images: bool | None
    """Let the model also see the tiles that pictures are cut into: finer, and many times slower."""
    longest_edge: int | None
    """Pixels to which a picture's longer side is scaled first: hence how many tiles it is split into."""

    truncate: bool | None
    """Drop the oldest turns of a conversation that has no room; ``accepted`` tells how many messages went.
    Default: refuse it."""

    max_tokens: int | None
    """Generated tokens at most. Default: as many as the context holds."""
    time_limit: float | None
    """Seconds in the worker after which a choice ends with what it has."""
    min_tokens: int | None
    """No end and no stop before so many tokens."""
    stop: Sequence[str] | None
    """Ends a choice when its text contains one of these; the match is not part of the output."""
    stop_token_ids: Sequence[int] | None
    """Ends a choice when one of these is generated; the token is not part of the output."""

    json: bool | None
    """Hold the output to JSON."""
    json_schema: Mapping[str, Any] | str | None
    """Hold it to JSON that this JSON Schema describes."""
    regex: str | None
    """Hold it to what this regular expression matches as a whole."""
    grammar: str | None
    """Hold it to this context-free grammar, in Lark syntax."""

    tools: Sequence[Tool] | None
    """Functions that the model may call."""
    tool_choice: str | None
    """``"none"``, ``"auto"`` (the default), ``"required"``, or the name of the tool that must be called."""
    constrained: bool | None
    """Hold a model that was not trained with tools to the form of a call; with ``"required"`` or a name."""
    single_call: bool | None
    """At most one call an answer."""

    n: int | None
    """Number of choices. Default: 1."""
    logprobs: bool | None
    """Return the log probability of each generated token."""
    top_logprobs: int | None
    """Return the log probabilities of that many most probable tokens at each position. Range [0, 20]."""
    echo: bool | None
    """Put the input's text in front of every choice; for raw prompts and token ids."""
    token_ids: bool | None
    """Return the generated token ids."""
    prompt_token_ids: bool | None
    """Return the prompt's token ids in ``accepted``."""
