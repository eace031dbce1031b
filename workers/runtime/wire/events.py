"""The public events of a generation's stream, from what the engine says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final

from diplex.v1 import generation_pb2 as public
from diplex.worker.v1 import worker_pb2
from workers.runtime.engine.messages import Admitted, Logprob, Piece
from workers.runtime.generation import (
    Finish,
    FinishReason,
    Generation,
    Timings,
)
from workers.runtime.progress import Phase, Progress
from workers.runtime.supervisor.model import ServedModel
from workers.runtime.tools.reading import ToolCallPiece
from workers.runtime.wire.enums import BACKENDS, PRECISIONS

_FINISH_REASONS: Final = {
    FinishReason.END_OF_SEQUENCE: public.FINISH_REASON_END_OF_SEQUENCE,
    FinishReason.STOP: public.FINISH_REASON_STOP,
    FinishReason.MAX_TOKENS: public.FINISH_REASON_MAX_TOKENS,
    FinishReason.CONTEXT_LENGTH: public.FINISH_REASON_CONTEXT_LENGTH,
    FinishReason.TIME_LIMIT: public.FINISH_REASON_TIME_LIMIT,
    FinishReason.TOOL_CALLS: public.FINISH_REASON_TOOL_CALLS,
}
_PHASES: Final = {
    Phase.DOWNLOAD: public.LOAD_PHASE_DOWNLOAD,
    Phase.VERIFY: public.LOAD_PHASE_VERIFY,
    Phase.CONVERT: public.LOAD_PHASE_CONVERT,
    Phase.LOAD: public.LOAD_PHASE_LOAD,
    Phase.WARM: public.LOAD_PHASE_WARM,
}


_NO_TIME: Final = Timings(0.0, 0.0, 0.0)


def accepted(
    request_id: str, model: ServedModel, worker: str, backend: str, event: Admitted, *, with_ids: bool
) -> public.Accepted:
    """What serves a request: the first event but for progress."""
    return public.Accepted(
        request_id=request_id,
        model=model.entry.name,
        backend=BACKENDS[backend],
        precision=PRECISIONS.get(model.profile, public.PRECISION_UNSPECIFIED),
        worker=worker,
        prompt_tokens=len(event.prompt_ids),
        prompt_token_ids=event.prompt_ids if with_ids else (),
        dropped_messages=event.dropped,
        image_tokens=event.image_tokens.all,
        cached_image_tokens=event.image_tokens.cached,
    )


class Told:
    """What a stream has been told of a generation, and its next events.

    Args:
        generation: What is generated.
        with_ids: Whether token ids are told.
        after: Number of the last event that the caller has; more than 0 if it has ``accepted`` already.
    """

    def __init__(self, generation: Generation, *, with_ids: bool, after: int = 0) -> None:
        self.finishes: list[Finish] = []
        """How the choices ended that have, in this order."""
        self._choices = generation.output.choices
        self._echoed = {prior.choice for prior in generation.prior if prior.characters}
        self._with_ids = with_ids
        self._sequence = self._after = after

    def progress(self, progress: Progress) -> worker_pb2.GenerateResponse:
        """How far the loading of the model is that the request waits for."""
        event = public.GenerateStreamResponse(progress=load_progress(progress))
        return _response(event, worker_pb2.EVENT_KIND_PROGRESS)

    def accepted(self, accepted: public.Accepted) -> worker_pb2.GenerateResponse:
        """The request is admitted."""
        number = 0 if self._after else self._next()
        event = public.GenerateStreamResponse(sequence=number, accepted=accepted)
        return _response(event, worker_pb2.EVENT_KIND_ACCEPTED)

    def echo(self, text: str) -> Iterator[worker_pb2.GenerateResponse]:
        """The input's text, if there is any to be told, in front of every choice that has none yet."""
        for choice in range(self._choices) if text else ():
            if choice not in self._echoed:
                yield self._delta(public.Delta(choice=choice, text=text))

    def piece(self, piece: Piece) -> Iterator[worker_pb2.GenerateResponse]:
        """A piece of a choice, and its end. Tokens that come to no text yet are told too."""
        if piece.token_ids or piece.text or piece.logprobs or piece.calls:
            yield self._delta(_delta(piece, with_ids=self._with_ids), piece.token_ids)
        if piece.finish is not None:
            self.finishes.append(piece.finish)
            event = public.GenerateStreamResponse(
                sequence=self._next(), finished=_finished(piece.choice, piece.finish)
            )
            yield worker_pb2.GenerateResponse(
                event=event.SerializeToString(),
                kind=worker_pb2.EVENT_KIND_FINISHED,
                choice=piece.choice,
                completion_tokens=piece.finish.completion_tokens,
            )

    def receipt(self, receipt: public.Receipt) -> worker_pb2.GenerateResponse:
        """The last event."""
        event = public.GenerateStreamResponse(sequence=self._next(), receipt=receipt)
        return _response(event, worker_pb2.EVENT_KIND_RECEIPT)

    def _delta(self, delta: public.Delta, token_ids: Sequence[int] = ()) -> worker_pb2.GenerateResponse:
        event = public.GenerateStreamResponse(sequence=self._next(), delta=delta)
        return worker_pb2.GenerateResponse(
            event=event.SerializeToString(),
            kind=worker_pb2.EVENT_KIND_DELTA,
            choice=delta.choice,
            token_ids=token_ids,
            characters=len(delta.text),
        )

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence


def _response(
    event: public.GenerateStreamResponse, kind: worker_pb2.EventKind.ValueType
) -> worker_pb2.GenerateResponse:
    return worker_pb2.GenerateResponse(event=event.SerializeToString(), kind=kind)


def _delta(piece: Piece, *, with_ids: bool) -> public.Delta:
    return public.Delta(
        choice=piece.choice,
        text=piece.text,
        token_ids=piece.token_ids if with_ids else (),
        logprobs=map(_logprob, piece.logprobs) if piece.logprobs else (),
        tool_calls=map(_tool_call, piece.calls) if piece.calls else (),
        tokens=len(piece.token_ids),
    )


def _tool_call(call: ToolCallPiece) -> public.ToolCallDelta:
    return public.ToolCallDelta(index=call.number, id=call.id, name=call.name, arguments=call.arguments)


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
    accepted: public.Accepted,
    model: ServedModel,
    finishes: Sequence[Finish],
    generation: Generation,
    *,
    attempt: int,
) -> public.Receipt:
    """What a generation took whose choices ended so, on the worker that was tried as number ``attempt``.

    The time to the first token is that of the choice which had it first. Choices that had ended before, on
    another worker, count with their tokens only.
    """
    first = min((finish.timings for finish in finishes), key=lambda it: it.until_first, default=_NO_TIME)
    until_last = max((finish.timings.until_last for finish in finishes), default=0.0)
    before = sum(prior.completion_tokens for prior in generation.prior if prior.finished)
    return public.Receipt(
        request_id=accepted.request_id,
        model=accepted.model,
        model_digest=digest(model),
        backend=accepted.backend,
        precision=accepted.precision,
        worker=accepted.worker,
        attempts=attempt or 1,
        usage=public.Usage(
            prompt_tokens=accepted.prompt_tokens,
            # A further choice takes over what the first one has computed, which was nobody's cache before.
            cached_prompt_tokens=min((finish.cached_tokens for finish in finishes), default=0),
            completion_tokens=before + sum(finish.completion_tokens for finish in finishes),
            speculated_tokens=sum(finish.speculated_tokens for finish in finishes),
            image_tokens=accepted.image_tokens,
            cached_image_tokens=accepted.cached_image_tokens,
        ),
        timings=public.Timings(
            queue_ms=first.queue * 1e3,
            prefill_ms=first.prefill * 1e3,
            decode_ms=(until_last - first.until_first) * 1e3,
        ),
        seed=generation.sampling.seed,
    )


def load_progress(progress: Progress) -> public.LoadProgress:
    """How far preparing and loading are."""
    message = public.LoadProgress(
        phase=_PHASES[progress.phase], done=progress.done, total=progress.total, detail=progress.detail
    )
    if progress.eta is not None:
        message.eta.FromTimedelta(timedelta(seconds=progress.eta))
    return message


def digest(model: ServedModel) -> str:
    """Of the prepared artefact, as the protos spell it; empty until there is one."""
    return f"sha256:{model.artefact.digest}" if model.artefact else ""
