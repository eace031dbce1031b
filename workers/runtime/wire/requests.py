"""From a gateway's messages to the worker's own terms."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Final

from diplex import validation
from diplex.errors import FieldViolation, InvalidRequest, UnsupportedFeature
from diplex.v1 import generation_pb2 as public
from diplex.worker.v1 import worker_pb2
from workers.runtime.catalogue import Capability, ModelEntry, SamplingDefaults
from workers.runtime.generation import (
    Chat,
    Generation,
    ModelInput,
    Output,
    Prior,
    Priority,
    Prompt,
    Stopping,
    TokenIds,
)
from workers.runtime.sampling import SamplingParams, fresh_seed
from workers.runtime.structured.response_format import (
    JsonFormat,
    JsonSchema,
    LarkGrammar,
    Regex,
    ResponseFormat,
)
from workers.runtime.tools.definitions import Tool, ToolUse
from workers.runtime.tools.prompting import introduced, written_out
from workers.runtime.vision.files import ImageFile
from workers.runtime.vision.options import ImageOptions
from workers.runtime.wire.enums import PRECISIONS

ROLES: Final = {
    public.ROLE_SYSTEM: "system",
    public.ROLE_USER: "user",
    public.ROLE_ASSISTANT: "assistant",
    public.ROLE_TOOL: "tool",
}

_PROFILES: Final = {precision: profile for profile, precision in PRECISIONS.items()}
_PRIORITIES: Final = {
    public.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    public.PRIORITY_BATCH: Priority.BATCH,
    public.PRIORITY_NORMAL: Priority.NORMAL,
    public.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
}


def profile(precision: public.Precision.ValueType) -> str | None:
    """The catalogue's name for a precision; ``None`` for the model's default.

    Raises:
        InvalidRequest: Nobody knows that precision.
    """
    if precision == public.PRECISION_UNSPECIFIED:
        return None
    if (found := _PROFILES.get(precision)) is None:
        raise InvalidRequest.of_field("precision", f"{precision} is unknown")
    return found


def generation(message: worker_pb2.GenerateRequest, entry: ModelEntry, timeout: float | None) -> Generation:
    """A validated request in the worker's terms, with the model's defaults for what it leaves unset.

    Args:
        message: The gateway's.
        entry: The model's.
        timeout: Seconds until the caller's deadline; ``None`` without one.

    Raises:
        UnsupportedFeature: The model can't take the input.
        InvalidRequest: What is to be gone on from is of no choice of the request.
    """
    request = message.request
    tools = _tool_use(request, entry)
    return Generation(
        model_input(request, entry, tools),
        _sampling(request.sampling, entry.sampling),
        _stopping(request),
        _PRIORITIES[request.priority],
        client=message.client,
        deadline=None if timeout is None else time.monotonic() + timeout,
        output=_output(request.output, whole=message.whole),
        tools=tools,
        truncate=request.truncation == public.TRUNCATION_POLICY_DROP_OLDEST_TURNS,
        prior=_prior(message.prior, request.output.n or 1),
    )


def model_input(
    request: public.GenerateRequest | public.CountTokensRequest,
    entry: ModelEntry,
    use: ToolUse | None = None,
) -> ModelInput:
    """The input of a validated request.

    Args:
        request: What was asked.
        entry: The model's.
        use: How tools are used, as far as that has been settled.

    Raises:
        UnsupportedFeature: Images for a model without eyes, messages for one that doesn't chat, or tools for
            one that doesn't know them.
    """
    match request.WhichOneof("input"):
        case "chat":
            return _chat(request, entry, use)
        case "tokens":
            assert isinstance(request, public.GenerateRequest)  # noqa: S101  # the only one with tokens
            return TokenIds(tuple(request.tokens.ids))
        case _:
            return Prompt(request.prompt)


def _chat(
    request: public.GenerateRequest | public.CountTokensRequest, entry: ModelEntry, use: ToolUse | None
) -> Chat:
    chat = request.chat
    if Capability.CHAT not in entry.capabilities:
        raise UnsupportedFeature.of_field("chat", f"{entry.name} has no chat template; send `prompt` instead")
    _refuse_images(chat, entry)
    messages = [_message(index, message) for index, message in enumerate(chat.messages)]
    tools, images = _tools(request.tools), _image_options(request.image_options)
    if Capability.TOOLS in entry.capabilities:
        return Chat(tuple(messages), tools, images)
    if tools and isinstance(request, public.CountTokensRequest):
        raise _without_tools(entry)
    written = [written_out(message) for message in messages]
    return Chat(tuple(introduced(written, use) if use else written), images=images)


def _message(index: int, message: public.ChatMessage) -> Mapping[str, object]:
    """A message as chat templates expect it."""
    given: dict[str, object] = {
        "role": ROLES[message.role],
        "content": _content(f"chat.messages[{index}]", message.parts),
    }
    if message.tool_calls:
        given["tool_calls"] = [
            _call(f"chat.messages[{index}].tool_calls[{number}]", call)
            for number, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        given["tool_call_id"] = message.tool_call_id
    return given


def _content(path: str, parts: Sequence[public.ContentPart]) -> object:
    """A text, or a list of parts if there are images among them."""
    if not any(part.HasField("image") for part in parts):
        return "".join(part.text for part in parts)
    return [
        {
            "type": "image",
            "image": ImageFile(part.image.data, f"{path}.parts[{number}].image", part.image.media_type),
        }
        if part.HasField("image")
        else {"type": "text", "text": part.text}
        for number, part in enumerate(parts)
    ]


def _image_options(options: public.ImageOptions) -> ImageOptions:
    edge = options.longest_edge if options.HasField("longest_edge") else None
    return ImageOptions(options.split, edge)


def _call(path: str, call: public.ToolCall) -> Mapping[str, object]:
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidRequest.of_field(f"{path}.arguments", f"is no JSON: {error}") from error
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _tools(tools: Sequence[public.Tool]) -> tuple[Tool, ...]:
    return tuple(Tool(tool.name, tool.description, tool.parameters_schema) for tool in tools)


def _tool_use(request: public.GenerateRequest, entry: ModelEntry) -> ToolUse | None:
    """How the tools of a validated request are used.

    Raises:
        UnsupportedFeature: The model doesn't know tools, and isn't to be held to a call's form.
    """
    choice = request.tool_choice
    if not request.tools or choice.mode == public.TOOL_CHOICE_MODE_NONE:
        return None
    named = choice.name
    tools = _tools([tool for tool in request.tools if not named or tool.name == named])
    required = bool(named) or choice.mode == public.TOOL_CHOICE_MODE_REQUIRED
    single = bool(named) or choice.single
    if Capability.TOOLS in entry.capabilities and not (required and choice.constrained):
        return ToolUse(tools, required, single=single)
    if not (required and choice.constrained):
        raise _without_tools(entry)
    return ToolUse(tools, required=True, own_format=False, single=single)


def _without_tools(entry: ModelEntry) -> InvalidRequest:
    return UnsupportedFeature.of_field(
        "tools",
        f"{entry.name} was not trained with tools; it can be held to a call's form: set "
        "tool_choice.constrained, and mode REQUIRED or the name of a tool",
    )


def _refuse_images(chat: public.ChatInput, entry: ModelEntry) -> None:
    if Capability.IMAGES in entry.capabilities:
        return
    text = f"{entry.name} takes text only, no images"
    if fields := validation.image_fields(chat):
        raise UnsupportedFeature(text, violations=[FieldViolation(field, text) for field in fields])


def _sampling(options: public.SamplingOptions, defaults: SamplingDefaults) -> SamplingParams:
    """Options over the model's defaults over values that change nothing."""
    neutral = SamplingParams()

    def value(name: str) -> float:
        if options.HasField(name):  # type: ignore[arg-type]  # the names below are fields
            return float(getattr(options, name))
        default = getattr(defaults, name, None)
        return float(getattr(neutral, name) if default is None else default)

    return SamplingParams(
        temperature=value("temperature"),
        top_k=int(value("top_k")),
        top_p=value("top_p"),
        min_p=value("min_p"),
        repetition_penalty=value("repetition_penalty"),
        presence_penalty=value("presence_penalty"),
        frequency_penalty=value("frequency_penalty"),
        logit_bias=tuple(options.logit_bias.items()),
        seed=options.seed if options.HasField("seed") else fresh_seed(),
    )


def _stopping(request: public.GenerateRequest) -> Stopping:
    options = request.stopping
    most = options.max_tokens if options.HasField("max_tokens") else None
    seconds = request.time_limit.ToNanoseconds() / 1e9 if request.HasField("time_limit") else None
    return Stopping(most, options.min_tokens, tuple(options.stop), tuple(options.stop_token_ids), seconds)


def _prior(given: Sequence[worker_pb2.PriorChoice], choices: int) -> tuple[Prior, ...]:
    seen: set[int] = set()
    for index, prior in enumerate(given):
        if prior.choice >= choices or prior.choice in seen:
            text = f"{prior.choice} comes twice, or isn't one of {choices} choices"
            raise InvalidRequest.of_field(f"prior[{index}].choice", text)
        seen.add(prior.choice)
    return tuple(
        Prior(it.choice, tuple(it.token_ids), it.characters, it.finished, it.completion_tokens)
        for it in given
    )


def _output(options: public.OutputOptions, *, whole: bool) -> Output:
    told = options.logprobs or options.top_logprobs
    return Output(
        options.n or 1,
        options.top_logprobs if told else None,
        options.echo,
        _format(options.response_format),
        whole,
    )


def _format(wanted: public.ResponseFormat) -> ResponseFormat | None:
    match wanted.WhichOneof("format"):
        case "json":
            return JsonFormat()
        case "json_schema":
            return JsonSchema(wanted.json_schema)
        case "regex":
            return Regex(wanted.regex)
        case "grammar":
            return LarkGrammar(wanted.grammar)
        case _:
            return None
