"""The engine's loop: schedule, forward, commit. One thread owns all that is here."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from diplex.errors import InternalError, QueueFull
from workers.runtime.engine.answer import Answer
from workers.runtime.engine.backend import Backend
from workers.runtime.engine.intake import Arrived, Closed, Encoded, InboxItem, ModelText, Unencodable
from workers.runtime.engine.messages import (
    Admitted,
    Cancel,
    EngineConfig,
    FromEngine,
    Load,
    Piece,
    Refused,
    Stepped,
)
from workers.runtime.engine.plan import StepPlan
from workers.runtime.engine.rates import Rate
from workers.runtime.engine.scheduler import Scheduler, Sequence
from workers.runtime.sampling import Sampler


class Engine:
    """Runs one model for all sequences that come in, until its inbox says ``Closed``.

    Args:
        backend: Computes; used by the thread that calls :meth:`run` only.
        text: The model's tokenizer and description.
        config: Slots, limits and chunk sizes.
        inbox: Requests and cancellations, drained once a step.
        send: Takes what goes back to the supervisor.
        clock: Seconds of the monotonic clock.
    """

    def __init__(
        self,
        backend: Backend,
        text: ModelText,
        config: EngineConfig,
        *,
        inbox: SimpleQueue[InboxItem],
        send: Callable[[FromEngine], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._text = text
        self._inbox = inbox
        self._send = send
        self._clock = clock
        self._max_queue = config.max_queue
        self._most_requests = config.slots + config.max_queue
        self._scheduler = Scheduler(
            config.slots, backend.max_length, config.prefill_chunk, config.shared_prefill_chunk
        )
        self._sampler = Sampler()
        self._answers: dict[int, Answer] = {}  # id -> answer of a waiting or running sequence
        self._encoding: dict[int, bool] = {}  # id of a request being encoded -> whether it was cancelled
        self._prefill_rate, self._decode_rate = Rate(), Rate()
        self._reported: Load | None = None

    def run(self) -> None:
        """Steps while there is work, waits for the inbox otherwise; returns when the supervisor is gone."""
        while self._drain_inbox():
            self._step(self._scheduler.schedule())

    def _step(self, plan: StepPlan) -> None:
        for chunk in plan.chunks:
            self._answers[chunk.sequence].start()
        began = self._clock()
        logits = self._backend.forward(plan)
        self._measure(plan, self._clock() - began)
        self._commit(plan, self._sample(plan, logits))

    def _sample(self, plan: StepPlan, logits: NDArray[np.float32]) -> list[int]:
        """The next token of every sequence of ``plan.sampled``; one whose logits are broken is refused."""
        rows = [self._answers[sequence].row() for sequence in plan.sampled]
        try:
            return _listed(self._sampler.sample(logits, rows))
        except InternalError as error:
            broken = [int(row) for row in error.metadata["rows"].split(",")]
            for row in broken:
                self._refuse(plan.sampled[row], error)
            logits[broken] = 0.0
            return _listed(self._sampler.sample(logits, rows))

    def _commit(self, plan: StepPlan, tokens: list[int]) -> None:
        pieces = []
        for committed in self._scheduler.commit(plan, tokens):
            piece = self._answers[committed.sequence].push(committed.token, committed.finish)
            pieces.append(piece)
            if piece.finish is not None:
                self._scheduler.remove(committed.sequence)
                del self._answers[committed.sequence]
        self._report(tuple(pieces))

    def _refuse(self, sequence: int, error: InternalError) -> None:
        self._scheduler.remove(sequence)
        del self._answers[sequence]
        self._send(Refused(sequence, error))

    # ------------------------------------------------------------------------------------- inbox

    def _drain_inbox(self) -> bool:
        """Takes in everything that waits, and waits itself while there is nothing else to do."""
        while not (self._inbox.empty() and self._answers):
            match self._inbox.get():
                case Closed():
                    return False
                case Arrived(request_id):
                    self._encoding[request_id] = False
                case Encoded() as request:
                    if not self._encoding.pop(request.id):
                        self._admit(request)
                case Unencodable(request_id, error):
                    if not self._encoding.pop(request_id):
                        self._send(Refused(request_id, error))
                case Cancel(request_id):
                    self._cancel(request_id)
        return True

    def _admit(self, request: Encoded) -> None:
        # Counted against the slots too: of requests that come in one step, some will find one free.
        if len(self._answers) >= self._most_requests:
            self._send(Refused(request.id, self._queue_full()))
            return
        self._send(Admitted(request.id, request.prompt_ids))
        description = self._text.description
        self._answers[request.id] = Answer.begin(
            request, self._text.tokenizer, description.vocab_size, self._clock
        )
        stopping = request.generation.stopping
        self._scheduler.add(
            Sequence(
                request.id,
                request.prompt_ids,
                stopping.max_tokens,
                frozenset(description.eos_token_ids),
                frozenset(stopping.stop_token_ids),
                request.generation.priority,
            )
        )

    def _queue_full(self) -> QueueFull:
        return QueueFull(
            f"the model's slots are taken and {self._max_queue} requests wait already; try again",
            metadata={"limit": str(self._max_queue)},
            retry_after=1.0,
        )

    def _cancel(self, request_id: int) -> None:
        if request_id in self._encoding:
            self._encoding[request_id] = True
        elif self._scheduler.remove(request_id):
            del self._answers[request_id]
            if not self._answers:
                self._report(())

    # ------------------------------------------------------------------------------------ report

    def _measure(self, plan: StepPlan, seconds: float) -> None:
        """Books a step that only prefilled or only decoded; one of both says nothing about either rate."""
        prefilled, decoded = sum(len(chunk.tokens) for chunk in plan.chunks), len(plan.rows)
        if not decoded:
            self._prefill_rate.add(prefilled, seconds)
        elif not prefilled:
            self._decode_rate.add(decoded, seconds)

    def _report(self, pieces: tuple[Piece, ...]) -> None:
        load = Load(
            self._scheduler.busy,
            self._scheduler.queued,
            round(self._prefill_rate.per_second, 1),
            round(self._decode_rate.per_second, 1),
        )
        if pieces or load != self._reported:
            self._reported = load
            self._send(Stepped(pieces, load))


def _listed(tokens: NDArray[np.int64]) -> list[int]:
    listed: list[int] = tokens.tolist()
    return listed
