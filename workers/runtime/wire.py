"""Between the wire's messages and the worker's own terms, both ways; nothing behind this knows protobuf."""

from __future__ import annotations

import time
from typing import Final

from diplex import validation
from diplex.errors import FieldViolation, InvalidRequest, UnsupportedFeature
from diplex.v1 import generation_pb2 as public
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from workers.runtime.catalogue import Capability, ModelEntry, SamplingDefaults
from workers.runtime.engine.messages import Admitted, Piece
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.generation import (
    Chat,
    Finish,
    FinishReason,
    Generation,
    ModelInput,
    Priority,
    Prompt,
    Stopping,
    TokenIds,
)
from workers.runtime.progress import Phase, Progress
from workers.runtime.sampling import SamplingParams, fresh_seed
from workers.runtime.supervisor.model import ServedModel, State
from workers.runtime.supervisor.unloaded import UnloadedModel

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
    return Generation(
        model_input(request, entry),
        _sampling(request.sampling, entry.sampling),
        _stopping(request.stopping),
        _PRIORITIES[request.priority],
        client=message.client,
        deadline=None if timeout is None else time.monotonic() + timeout,
    )


def model_input(request: public.GenerateRequest | public.CountTokensRequest, entry: ModelEntry) -> ModelInput:
    """The input of a validated request.

    Raises:
        UnsupportedFeature: Images for a model without eyes, or messages for one that doesn't chat.
    """
    match request.WhichOneof("input"):
        case "chat":
            return _chat(request.chat, entry)
        case "tokens":
            assert isinstance(request, public.GenerateRequest)  # noqa: S101  # the only one with tokens
            return TokenIds(tuple(request.tokens.ids))
        case _:
            return Prompt(request.prompt)


def _chat(chat: public.ChatInput, entry: ModelEntry) -> Chat:
    if Capability.CHAT not in entry.capabilities:
        raise UnsupportedFeature.of_field("chat", f"{entry.name} has no chat template; send `prompt` instead")
    _refuse_images(chat, entry)
    _refuse_tool_turns(chat)
    return Chat(
        tuple(
            {"role": ROLES[message.role], "content": "".join(part.text for part in message.parts)}
            for message in chat.messages
        )
    )


def _refuse_images(chat: public.ChatInput, entry: ModelEntry) -> None:
    text = f"{entry.name} takes text only, no images"
    if fields := validation.image_fields(chat):
        raise UnsupportedFeature(text, violations=[FieldViolation(field, text) for field in fields])


def _refuse_tool_turns(chat: public.ChatInput) -> None:
    """Refuses what the conversation given to the template would leave out."""
    text = "calls of tools are not served yet"
    violations = [
        FieldViolation(f"chat.messages[{i}].{field}", text)
        for i, message in enumerate(chat.messages)
        for field in ("tool_calls", "tool_call_id")
        if getattr(message, field)
    ]
    if violations:
        raise UnsupportedFeature(text, violations=violations)


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
        seed=options.seed if options.HasField("seed") else fresh_seed(),
    )


def _stopping(options: public.StoppingOptions) -> Stopping:
    most = options.max_tokens if options.HasField("max_tokens") else None
    return Stopping(most, tuple(options.stop), tuple(options.stop_token_ids))


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
    )


def delta(piece: Piece, *, tokens: int, with_ids: bool) -> public.Delta:
    """A piece of the only choice, which stands for ``tokens``: its own and those before without a text."""
    return public.Delta(text=piece.text, token_ids=piece.token_ids if with_ids else (), tokens=tokens)


def finished(finish: Finish) -> public.ChoiceFinished:
    """The end of the only choice."""
    event = public.ChoiceFinished(reason=_FINISH_REASONS[finish.reason])
    if finish.reason is FinishReason.STOP:
        if isinstance(finish.stop_match, str):
            event.stop_match.text = finish.stop_match
        elif finish.stop_match is not None:
            event.stop_match.token_id = finish.stop_match
    return event


def receipt(
    accepted: public.Accepted, model: ServedModel, finish: Finish, *, seed: int, attempt: int
) -> public.Receipt:
    """The last event of a stream, on the worker that was tried as number ``attempt``."""
    return public.Receipt(
        request_id=accepted.request_id,
        model=accepted.model,
        model_digest=_digest(model),
        backend=accepted.backend,
        precision=accepted.precision,
        worker=accepted.worker,
        attempts=attempt or 1,
        usage=public.Usage(
            prompt_tokens=finish.prompt_tokens,
            cached_prompt_tokens=finish.cached_tokens,
            completion_tokens=finish.completion_tokens,
            speculated_tokens=finish.speculated_tokens,
        ),
        timings=public.Timings(
            queue_ms=finish.timings.queue * 1e3,
            prefill_ms=finish.timings.prefill * 1e3,
            decode_ms=finish.timings.decode * 1e3,
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
