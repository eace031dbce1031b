"""The public events of a generation's stream, from what the engine says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from diplex.v1 import generation_pb2 as public
from workers.runtime.engine.messages import Admitted, Logprob, Piece
from workers.runtime.generation import (
    Finish,
    FinishReason,
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
        model_digest=digest(model),
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
            image_tokens=first.image_tokens.all,
            cached_image_tokens=first.image_tokens.cached,
        ),
        timings=public.Timings(
            queue_ms=first.timings.queue * 1e3,
            prefill_ms=first.timings.prefill * 1e3,
            decode_ms=(until_last - first.timings.until_first) * 1e3,
        ),
        seed=seed,
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
