"""Between the wire's messages and the worker's own terms, both ways; nothing behind this knows protobuf."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from diplex import validation
from diplex.errors import FieldViolation, InvalidRequest, UnsupportedFeature
from diplex.v1 import generation_pb2 as public
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from workers.runtime.catalogue import Capability, ModelEntry, SamplingDefaults
from workers.runtime.engine.messages import Admitted, Logprob, Piece
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.generation import (
    Chat,
    Finish,
    FinishReason,
    Generation,
    ModelInput,
    Output,
    Priority,
    Prompt,
    Stopping,
    TokenIds,
)
from workers.runtime.progress import Phase, Progress
from workers.runtime.sampling import SamplingParams, fresh_seed
from workers.runtime.structured.response_format import (
    JsonFormat,
    JsonSchema,
    LarkGrammar,
    Regex,
    ResponseFormat,
)
from workers.runtime.supervisor.model import ServedModel, State
from workers.runtime.supervisor.unloaded import UnloadedModel
from workers.runtime.tools.definitions import Tool, ToolUse
from workers.runtime.tools.prompting import introduced, written_out
from workers.runtime.tools.reading import ToolCallPiece

ROLES: Final = {
    public.ROLE_SYSTEM: "system",
    public.ROLE_USER: "user",
    public.ROLE_ASSISTANT: "assistant",
    public.ROLE_TOOL: "tool",
}
BACKENDS: Final = {"onnx": public.BACKEND_ONNX, "torch": public.BACKEND_TORCH}
PRECISIONS: Final = {
    "fp32": public.PRECISION_FP32,
    "bf16": public.PRECISION_BF16,
    "fp16": public.PRECISION_FP16,
    "int8": public.PRECISION_INT8,
    "int4": public.PRECISION_INT4,
}

_PROFILES: Final = {precision: profile for profile, precision in PRECISIONS.items()}
_PRIORITIES: Final = {
    public.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    public.PRIORITY_BATCH: Priority.BATCH,
    public.PRIORITY_NORMAL: Priority.NORMAL,
    public.PRIORITY_INTERACTIVE: Priority.INTERACTIVE,
}
_FINISH_REASONS: Final = {
    FinishReason.END_OF_SEQUENCE: public.FINISH_REASON_END_OF_SEQUENCE,
    FinishReason.STOP: public.FINISH_REASON_STOP,
    FinishReason.MAX_TOKENS: public.FINISH_REASON_MAX_TOKENS,
    FinishReason.CONTEXT_LENGTH: public.FINISH_REASON_CONTEXT_LENGTH,
    FinishReason.TOOL_CALLS: public.FINISH_REASON_TOOL_CALLS,
}
_STATES: Final = {
    State.LOADING: models_pb2.MODEL_STATE_LOADING,
    State.READY: models_pb2.MODEL_STATE_READY,
    State.RESTARTING: models_pb2.MODEL_STATE_RESTARTING,
    State.FAILED: models_pb2.MODEL_STATE_FAILED,
}
_PHASES: Final = {
    Phase.DOWNLOAD: public.LOAD_PHASE_DOWNLOAD,
    Phase.VERIFY: public.LOAD_PHASE_VERIFY,
    Phase.CONVERT: public.LOAD_PHASE_CONVERT,
    Phase.LOAD: public.LOAD_PHASE_LOAD,
    Phase.WARM: public.LOAD_PHASE_WARM,
}

# ----------------------------------------------------------------------------------------- inward


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
    """
    request = message.request
    tools = _tool_use(request, entry)
    return Generation(
        model_input(request, entry, tools),
        _sampling(request.sampling, entry.sampling),
        _stopping(request.stopping),
        _PRIORITIES[request.priority],
        client=message.client,
        deadline=None if timeout is None else time.monotonic() + timeout,
        output=_output(request.output),
        tools=tools,
        truncate=request.truncation == public.TRUNCATION_POLICY_DROP_OLDEST_TURNS,
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
    tools = _tools(request.tools)
    if Capability.TOOLS in entry.capabilities:
        return Chat(tuple(messages), tools)
    if tools and isinstance(request, public.CountTokensRequest):
        raise _without_tools(entry)
    written = [written_out(message) for message in messages]
    return Chat(tuple(introduced(written, use.tools) if use else written))


def _message(index: int, message: public.ChatMessage) -> Mapping[str, object]:
    """A message as chat templates expect it."""
    given: dict[str, object] = {
        "role": ROLES[message.role],
        "content": "".join(part.text for part in message.parts),
    }
    if message.tool_calls:
        given["tool_calls"] = [
            _call(f"chat.messages[{index}].tool_calls[{number}]", call)
            for number, call in enumerate(message.tool_calls)
        ]
    if message.tool_call_id:
        given["tool_call_id"] = message.tool_call_id
    return given


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
    if Capability.TOOLS in entry.capabilities and not (required and choice.constrained):
        return ToolUse(tools, required)
    if not (required and choice.constrained):
        raise _without_tools(entry)
    return ToolUse(tools, required=True, own_format=False)


def _without_tools(entry: ModelEntry) -> InvalidRequest:
    return UnsupportedFeature.of_field(
        "tools",
        f"{entry.name} was not trained with tools; it can be held to a call's form: set "
        "tool_choice.constrained, and mode REQUIRED or the name of a tool",
    )


def _refuse_images(chat: public.ChatInput, entry: ModelEntry) -> None:
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


def _stopping(options: public.StoppingOptions) -> Stopping:
    most = options.max_tokens if options.HasField("max_tokens") else None
    return Stopping(most, options.min_tokens, tuple(options.stop), tuple(options.stop_token_ids))


def _output(options: public.OutputOptions) -> Output:
    told = options.logprobs or options.top_logprobs
    return Output(
        options.n or 1,
        options.top_logprobs if told else None,
        options.echo,
        _format(options.response_format),
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


# ---------------------------------------------------------------------------------------- outward


def accepted(
    request_id: str, model: ServedModel, worker: str, backend: str, event: Admitted, *, with_ids: bool
) -> public.Accepted:
    """The first event of a stream."""
    return public.Accepted(
        request_id=request_id,
        model=model.entry.name,
        backend=BACKENDS[backend],
        precision=PRECISIONS.get(model.profile, public.PRECISION_UNSPECIFIED),
        worker=worker,
        prompt_tokens=len(event.prompt_ids),
        prompt_token_ids=event.prompt_ids if with_ids else (),
        dropped_messages=event.dropped,
    )


class Told:
    """What a stream has been told of a generation, and its next events.

    Args:
        choices: How many continuations there are.
        with_ids: Whether token ids are told.
    """

    def __init__(self, choices: int, *, with_ids: bool) -> None:
        self.finishes: list[Finish] = []
        """How the choices ended that have, in this order."""
        self._choices = choices
        self._with_ids = with_ids
        self._sequence = 0
        self._untold = [0] * choices  # tokens that had no text yet

    def progress(self, progress: Progress) -> public.GenerateStreamResponse:
        """How far the loading of the model is that the request waits for."""
        return self._next(progress=load_progress(progress))

    def accepted(self, accepted: public.Accepted) -> public.GenerateStreamResponse:
        """The request is admitted."""
        return self._next(accepted=accepted)

    def echo(self, text: str) -> Iterator[public.GenerateStreamResponse]:
        """The input's text, if there is any to be told, in front of every choice."""
        if text:
            for choice in range(self._choices):
                yield self._next(delta=public.Delta(choice=choice, text=text))

    def piece(self, piece: Piece) -> Iterator[public.GenerateStreamResponse]:
        """A piece of a choice, and its end."""
        self._untold[piece.choice] += len(piece.token_ids)
        if piece.text or piece.logprobs or piece.calls or (piece.token_ids and self._with_ids):
            delta = _delta(piece, tokens=self._untold[piece.choice], with_ids=self._with_ids)
            self._untold[piece.choice] = 0
            yield self._next(delta=delta)
        if piece.finish is not None:
            self.finishes.append(piece.finish)
            yield self._next(finished=_finished(piece.choice, piece.finish))

    def receipt(self, receipt: public.Receipt) -> public.GenerateStreamResponse:
        """The last event."""
        return self._next(receipt=receipt)

    def _next(self, **event: Any) -> public.GenerateStreamResponse:
        self._sequence += 1
        return public.GenerateStreamResponse(sequence=self._sequence, **event)


def _delta(piece: Piece, *, tokens: int, with_ids: bool) -> public.Delta:
    """A piece of a choice, which stands for ``tokens``: its own and those before without a text."""
    return public.Delta(
        choice=piece.choice,
        text=piece.text,
        token_ids=piece.token_ids if with_ids else (),
        logprobs=map(_logprob, piece.logprobs) if piece.logprobs else (),
        tool_calls=map(_tool_call, piece.calls) if piece.calls else (),
        tokens=tokens,
    )


def _tool_call(call: ToolCallPiece) -> public.ToolCallDelta:
    return public.ToolCallDelta(id=call.id, name=call.name, arguments=call.arguments)


def _logprob(told: Logprob) -> public.TokenLogprob:
    return public.TokenLogprob(
        token_id=told.token_id, token=told.token, logprob=told.logprob, top=map(_logprob, told.top)
    )


def _finished(choice: int, finish: Finish) -> public.ChoiceFinished:
    event = public.ChoiceFinished(choice=choice, reason=_FINISH_REASONS[finish.reason])
    if finish.reason is FinishReason.STOP:
        if isinstance(finish.stop_match, str):
            event.stop_match.text = finish.stop_match
        elif finish.stop_match is not None:
            event.stop_match.token_id = finish.stop_match
    return event


def receipt(
    accepted: public.Accepted, model: ServedModel, finishes: Sequence[Finish], *, seed: int, attempt: int
) -> public.Receipt:
    """What a generation took whose choices ended so, on the worker that was tried as number ``attempt``.

    The time to the first token is that of the choice which had it first.
    """
    first = min(finishes, key=lambda finish: finish.timings.until_first)
    until_last = max(finish.timings.until_last for finish in finishes)
    return public.Receipt(
        request_id=accepted.request_id,
        model=accepted.model,
        model_digest=_digest(model),
        backend=accepted.backend,
        precision=accepted.precision,
        worker=accepted.worker,
        attempts=attempt or 1,
        usage=public.Usage(
            prompt_tokens=first.prompt_tokens,
            # A further choice takes over what the first one has computed, which was nobody's cache before.
            cached_prompt_tokens=min(finish.cached_tokens for finish in finishes),
            completion_tokens=sum(finish.completion_tokens for finish in finishes),
            speculated_tokens=sum(finish.speculated_tokens for finish in finishes),
        ),
        timings=public.Timings(
            queue_ms=first.timings.queue * 1e3,
            prefill_ms=first.timings.prefill * 1e3,
            decode_ms=(until_last - first.timings.until_first) * 1e3,
        ),
        seed=seed,
    )


def model_state(model: ServedModel | UnloadedModel, worker: str, backend: str) -> models_pb2.Model:
    """A model with its one deployment, this worker's."""
    entry, length, description = model.entry, 0, None
    if isinstance(model, ServedModel):
        length, description = model.limits.max_length, model.description
        deployment = _deployment(model)
    else:
        deployment = _unloaded(model)
    deployment.worker, deployment.backend = worker, BACKENDS[backend]
    deployment.precision = PRECISIONS.get(model.profile, public.PRECISION_UNSPECIFIED)
    return models_pb2.Model(
        name=entry.name,
        aliases=entry.aliases,
        architecture=entry.architecture,
        licence=entry.licence,
        capabilities=models_pb2.ModelCapabilities(
            chat=Capability.CHAT in entry.capabilities,
            images=Capability.IMAGES in entry.capabilities,
            tools=Capability.TOOLS in entry.capabilities,
            context_length=length or entry.context_length,
            vocabulary_size=description.vocab_size if description else 0,
        ),
        deployments=[deployment],
    )


def _unloaded(model: UnloadedModel) -> models_pb2.ModelDeployment:
    artefact, predicted = model.artefact, model.predicted
    return models_pb2.ModelDeployment(
        state=models_pb2.MODEL_STATE_UNLOADED,
        digest=f"sha256:{artefact.digest}" if artefact else "",
        certificate=_certificate(artefact.certificate if artefact else None),
        predicted_bytes=predicted.loaded if predicted else 0,
        most_bytes=predicted.most if predicted else 0,
        pinned=model.entry.serving.pinned,
        detail=f"the last time: {model.failure.message}" if model.failure else "",
    )


def _deployment(model: ServedModel) -> models_pb2.ModelDeployment:
    load = model.load
    return models_pb2.ModelDeployment(
        state=_STATES[model.state],
        digest=_digest(model),
        resident_bytes=model.resident_bytes,
        slots=models_pb2.SlotUse(total=model.limits.slots, busy=load.busy, queued=load.queued),
        rates=models_pb2.Rates(
            prefill_tokens_per_second=load.prefill_rate, decode_tokens_per_second=load.decode_rate
        ),
        certificate=_certificate(model.artefact.certificate if model.artefact else None),
        detail=_detail(model),
        predicted_bytes=model.predicted.loaded if model.predicted else 0,
        loaded_bytes=model.loaded_bytes,
        most_bytes=model.tenancy.reserved,
        pinned=model.tenancy.terms.pinned,
    )


def load_progress(progress: Progress) -> public.LoadProgress:
    """How far preparing and loading are."""
    return public.LoadProgress(
        phase=_PHASES[progress.phase], done=progress.done, total=progress.total, detail=progress.detail
    )


def _detail(model: ServedModel) -> str:
    if model.failure is not None:
        return model.failure.message
    if model.state is State.LOADING:
        progress = model.progress
        of = f" of {progress.total}" if progress.total else ""
        return f"{progress.phase.value} {progress.done}{of} {progress.detail}".rstrip()
    return ""


def _digest(model: ServedModel) -> str:
    return f"sha256:{model.artefact.digest}" if model.artefact else ""


def _certificate(certificate: Certificate | None) -> models_pb2.Certificate | None:
    if certificate is None:
        return None
    return models_pb2.Certificate(
        kl=certificate.kl,
        perplexity=certificate.perplexity,
        reference_perplexity=certificate.reference_perplexity,
        top1_agreement=certificate.top1_agreement,
        tokens=certificate.tokens,
    )
