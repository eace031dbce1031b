"""From protobuf to what a caller gets; the way there is in ``requests``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.rpc import status_pb2

from diplex import errors, status
from diplex.client import inputs, models, replies
from diplex.client.inputs import Backend, Precision
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2 as models_pb

# Number of an enum's value -> our member. Numbers of a newer server are not in here.
_BACKENDS: Final = {pb.Backend.Value(f"BACKEND_{each.name}"): each for each in Backend}
_PRECISIONS: Final = {pb.Precision.Value(f"PRECISION_{each.name}"): each for each in Precision}
_FINISH_REASONS: Final = {
    pb.FinishReason.Value(f"FINISH_REASON_{each.name}"): each for each in replies.FinishReason
}
_LOAD_PHASES: Final = {pb.LoadPhase.Value(f"LOAD_PHASE_{each.name}"): each for each in models.LoadPhase}
_MODEL_STATES: Final = {
    models_pb.ModelState.Value(f"MODEL_STATE_{each.name}"): each for each in models.ModelState
}


def generation(response: pb.GenerateResponse) -> replies.Generation:
    """The whole answer.

    Raises:
        InternalError: It holds no choice.
    """
    if not response.choices:
        raise errors.InternalError("the gateway answered without a choice")
    return replies.Generation(
        tuple(_choice(each) for each in response.choices),
        accepted(response.accepted),
        receipt(response.receipt),
    )


def _choice(choice: pb.Choice) -> replies.Choice:
    return replies.Choice(
        index=choice.index,
        text=choice.text,
        finish_reason=finish_reason(choice.finish_reason),
        stop_match=stop_match(choice.stop_match),
        token_ids=tuple(choice.token_ids),
        logprobs=_logprobs(choice.logprobs),
        tool_calls=tuple(inputs.ToolCall(call.id, call.name, call.arguments) for call in choice.tool_calls),
    )


def delta(message: pb.Delta) -> replies.Delta:
    """A piece of a choice. Runs once a step of the model: keep it short."""
    ids, logprobs = message.token_ids, message.logprobs
    return replies.Delta(
        message.text,
        message.choice,
        message.tokens,
        tuple(ids) if ids else (),
        _logprobs(logprobs) if logprobs else (),
        tuple(
            replies.ToolCallDelta(call.index, call.id, call.name, call.arguments)
            for call in message.tool_calls
        )
        if message.tool_calls
        else (),
    )


def _logprobs(entries: Iterable[pb.TokenLogprob]) -> tuple[replies.TokenLogprob, ...]:
    return tuple(
        replies.TokenLogprob(each.token_id, each.token, each.logprob, _logprobs(each.top)) for each in entries
    )


def finish_reason(number: pb.FinishReason.ValueType) -> replies.FinishReason:
    """Why a choice ended; ``UNSPECIFIED`` for numbers of a newer server."""
    return _FINISH_REASONS.get(number, replies.FinishReason.UNSPECIFIED)


def stop_match(match: pb.StopMatch) -> str | int | None:
    """The stop string or token id that matched."""
    kind = match.WhichOneof("match")
    return None if kind is None else match.text if kind == "text" else match.token_id


def accepted(message: pb.Accepted) -> replies.Accepted:
    """What serves a request."""
    return replies.Accepted(
        request_id=message.request_id,
        model=message.model,
        backend=_BACKENDS.get(message.backend, Backend.UNSPECIFIED),
        precision=_PRECISIONS.get(message.precision, Precision.UNSPECIFIED),
        worker=message.worker,
        prompt_tokens=message.prompt_tokens,
        prompt_token_ids=tuple(message.prompt_token_ids),
        dropped_messages=message.dropped_messages,
        image_tokens=message.image_tokens,
        cached_image_tokens=message.cached_image_tokens,
    )


def receipt(message: pb.Receipt) -> replies.Receipt:
    """What a request cost."""
    usage, timings = message.usage, message.timings
    return replies.Receipt(
        request_id=message.request_id,
        model=message.model,
        model_digest=message.model_digest,
        backend=_BACKENDS.get(message.backend, Backend.UNSPECIFIED),
        precision=_PRECISIONS.get(message.precision, Precision.UNSPECIFIED),
        worker=message.worker,
        attempts=message.attempts,
        usage=replies.Usage(
            usage.prompt_tokens,
            usage.cached_prompt_tokens,
            usage.completion_tokens,
            usage.speculated_tokens,
            usage.image_tokens,
            usage.cached_image_tokens,
        ),
        timings=replies.Timings(timings.queue_ms, timings.prefill_ms, timings.decode_ms),
        seed=message.seed,
    )


def token_count(response: pb.CountTokensResponse) -> replies.TokenCount:
    """What an input comes to."""
    ids = tuple(response.token_ids)
    return replies.TokenCount(response.tokens, response.context_length, ids, response.image_tokens)


def plan(response: pb.PlanResponse) -> tuple[models.Candidate, ...]:
    """The ways in which a request could be served, best first."""
    return tuple(
        models.Candidate(
            model=each.model,
            backend=_BACKENDS.get(each.backend, Backend.UNSPECIFIED),
            precision=_PRECISIONS.get(each.precision, Precision.UNSPECIFIED),
            worker=each.worker,
            reason=each.reason,
            can_serve=each.can_serve,
        )
        for each in response.candidates
    )


def batch_result(response: pb.GenerateBatchResponse) -> replies.BatchResult:
    """What became of one request."""
    if response.HasField("response"):
        return replies.BatchResult(response.index, generation(response.response))
    told = status_pb2.Status.FromString(response.error.status)
    return replies.BatchResult(response.index, status.from_rpc_status(told))


def model_list(response: models_pb.ListModelsResponse) -> models.ModelList:
    """All models."""
    return models.ModelList(tuple(model(each) for each in response.models), response.default_model)


def model(message: models_pb.Model) -> models.Model:
    """One model."""
    can = message.capabilities
    return models.Model(
        name=message.name,
        aliases=tuple(message.aliases),
        architecture=message.architecture,
        licence=message.licence,
        chat=can.chat,
        images=can.images,
        tools=can.tools,
        context_length=can.context_length,
        vocabulary_size=can.vocabulary_size,
        deployments=tuple(_deployment(each) for each in message.deployments),
    )


def load_progress(message: pb.LoadProgress) -> models.LoadProgress:
    """How far a load is."""
    return models.LoadProgress(
        _LOAD_PHASES.get(message.phase, models.LoadPhase.UNSPECIFIED),
        message.done,
        message.total if message.HasField("total") else None,
        message.detail,
        message.eta.ToTimedelta().total_seconds() if message.HasField("eta") else None,
    )


def _deployment(message: models_pb.ModelDeployment) -> models.Deployment:
    return models.Deployment(
        worker=message.worker,
        backend=_BACKENDS.get(message.backend, Backend.UNSPECIFIED),
        precision=_PRECISIONS.get(message.precision, Precision.UNSPECIFIED),
        state=_MODEL_STATES.get(message.state, models.ModelState.UNSPECIFIED),
        digest=message.digest,
        resident_bytes=message.resident_bytes,
        predicted_bytes=message.predicted_bytes,
        loaded_bytes=message.loaded_bytes,
        most_bytes=message.most_bytes,
        pinned=message.pinned,
        slots=message.slots.total,
        busy_slots=message.slots.busy,
        queued=message.slots.queued,
        prefill_tokens_per_second=message.rates.prefill_tokens_per_second,
        decode_tokens_per_second=message.rates.decode_tokens_per_second,
        certificate=_certificate(message.certificate) if message.HasField("certificate") else None,
        detail=message.detail,
    )


def _certificate(message: models_pb.Certificate) -> models.Certificate:
    return models.Certificate(
        message.kl,
        message.perplexity,
        message.reference_perplexity,
        message.top1_agreement,
        message.tokens,
    )
