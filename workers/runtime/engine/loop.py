"""The engine's loop: schedule, forward, commit. One thread owns all that is here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Final

from diplex.errors import DiplexError, QueueFull
from workers.runtime.engine.answer import Answer
from workers.runtime.engine.backend import Backend, StepResult
from workers.runtime.engine.beat import Beat
from workers.runtime.engine.budget import Allowance, PrefillBudget
from workers.runtime.engine.chooser import Chooser, Chosen, Logprobs
from workers.runtime.engine.continuation import caught_up
from workers.runtime.engine.intake import Arrived, Closed, Encoded, InboxItem, Unencodable
from workers.runtime.engine.messages import (
    Admitted,
    Cancel,
    Choice,
    EngineConfig,
    FromEngine,
    Load,
    Piece,
    Refused,
    joined,
)
from workers.runtime.engine.model_text import ModelText
from workers.runtime.engine.plan import StepPlan
from workers.runtime.engine.prompt_lookup import PromptLookup
from workers.runtime.engine.rates import Rate
from workers.runtime.engine.scheduler import Committed, Limits, Scheduler
from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.sight import Sight
from workers.runtime.engine.slots import NOBODY
from workers.runtime.engine.speculation import Speculation
from workers.runtime.generation import FinishReason, Prompt
from workers.runtime.sampling import TokenLogprob

_PATIENCE: Final = 60.0
"""Seconds after its arrival in which a request without a deadline, or with a later one, is due."""
_TRIM_SECONDS: Final = 1.0
"""Seconds without a request after which working memory is given back."""


class Engine:
    """Runs one model for all sequences that come in, until its inbox says ``Closed``.

    Args:
        backend: Computes; used by the thread that calls :meth:`run` only.
        text: The model's tokenizer and description.
        config: Slots, limits and chunk sizes.
        limits: What the scheduler may give away.
        inbox: Requests and cancellations, drained once a step.
        send: Takes what goes back to the supervisor.
        clock: Seconds of the monotonic clock.
    """

    def __init__(
        self,
        backend: Backend,
        text: ModelText,
        config: EngineConfig,
        limits: Limits,
        *,
        inbox: SimpleQueue[InboxItem],
        send: Callable[[FromEngine], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._text = text
        self._send = send
        self._beat = Beat(send, clock, config.messages_per_second)
        self._clock = clock
        self._max_queue = config.max_queue
        self._most_requests = config.slots + config.max_queue
        self._scheduler = Scheduler(limits)
        self._budget = PrefillBudget(
            config.max_stall, alone=config.prefill_chunk, shared=config.shared_prefill_chunk
        )
        self._speculation = Speculation(backend.most_guessing) if config.speculation else None
        vision = text.description.vision
        self._undivided = vision is not None and vision.mutual
        self._sight = Sight(backend.eyes, text.viewer.gallery if text.viewer else None, clock)
        self._chooser = Chooser(text.description.vocab_size, self._scheduler.max_length)
        self._answers: dict[int, Answer] = {}  # sequence -> its answer, while it waits or runs
        self._timed: dict[int, Answer] = {}  # those of them that have a time limit
        self._choices: dict[int, set[int]] = {}  # request -> its sequences among those
        self._further = count(NOBODY - 1, -1)  # of further choices; the first has the request's id
        self._encoding: dict[int, bool] = {}  # id of a request being encoded -> whether it was cancelled
        self._prefill_rate, self._decode_rate = Rate(), Rate()
        self._inbox = inbox
        self._cache_idle_seconds = config.cache_idle_seconds

    def run(self) -> None:
        """Steps while there is work, waits for the inbox otherwise; returns when the supervisor is gone."""
        while self._drain_inbox():
            self._end_late()
            if self._answers:
                self._step(self._planned())

    def _planned(self) -> StepPlan:
        allowance = self._budget.allowance(self._scheduler.decoding, self._scheduler.prompts)
        encode = self._sight.allows(self._scheduler.decoding)
        return self._scheduler.schedule(allowance, self._speculation, encode=encode)

    def _end_late(self) -> None:
        """Ends what has had all its time, with what it has."""
        now = self._clock()
        late = [each for each, answer in self._timed.items() if answer.over_at and answer.over_at <= now]
        pieces = []
        for sequence in late:
            pieces.append(self._timed[sequence].end(FinishReason.TIME_LIMIT))
            self._scheduler.remove(sequence)
            self._forget(sequence)
        if pieces:
            self._report(tuple(pieces))

    def _step(self, plan: StepPlan) -> None:
        for sequence in plan.sequences:
            self._answers[sequence].start()
        if plan.encode:
            self._beat.flush()  # it may take many steps' time
        self._sight.look(plan.encode)
        result = self._backend.forward(plan)
        chosen = self._chooser.choose(plan, result.logits, self._answers)
        self._refuse_stuck(chosen)
        committed = self._scheduler.commit(plan, chosen.tokens)
        self._measure(plan, result, committed)
        self._push(committed, chosen.logprobs, [chunk.sequence for chunk in plan.complete])

    def _refuse_stuck(self, chosen: Chosen) -> None:
        """Refuses the requests that can't go on, before anything builds on what they hold."""
        for sequence in chosen.broken:
            self._scheduler.discard(sequence)
        for sequence, error in chosen.stuck.items():
            self._refuse(sequence, error)

    def _refuse(self, sequence: int, error: DiplexError) -> None:
        """Ends a request, one of whose choices can't go on."""
        if answer := self._answers.get(sequence):  # else another choice of it had ended it
            self._cancel(answer.request.id)
            self._beat.flush(answer.request.id)
            self._send(Refused(answer.request.id, error))

    def _push(self, committed: list[Committed], logprobs: Logprobs, begun: list[int]) -> None:
        """Sends what a step gave. Of a sequence that a stop string has ended, nothing more is taken.

        Args:
            committed: Tokens.
            logprobs: Of those that are wanted.
            begun: Sequences that decode from now on.
        """
        pieces: dict[int, list[Piece]] = {}  # sequence -> pieces
        for token in committed:
            answer = self._answers.get(token.sequence)
            if answer is None:
                continue
            answer.cached = token.cached
            before = pieces.setdefault(token.sequence, [])
            told = logprobs.get(token.sequence)
            logprob = told[len(before)] if told else None
            before += self._pushed(answer, token, logprob)
            if self._scheduler.busy == 1 and logprob is None:
                before += self._jumped(token.sequence)
        first = {pieces[sequence][0].of for sequence in begun if pieces.get(sequence)}
        self._report(tuple(joined(of_one) for of_one in pieces.values() if of_one), first)

    def _pushed(
        self, answer: Answer, token: Committed, logprob: TokenLogprob | None = None
    ) -> tuple[Piece, ...]:
        """The piece that a token comes to; none if its request can't go on."""
        try:
            piece = answer.push(token.token, token.finish, guessed=token.guessed, logprob=logprob)
        except DiplexError as error:  # of a grammar
            self._refuse(token.sequence, error)
            return ()
        if piece.finish is not None:
            self._scheduler.remove(token.sequence)
            self._forget(token.sequence)
        return (piece,)

    def _jumped(self, sequence: int) -> Iterator[Piece]:
        """Gives a sequence all the tokens that its grammar forces, to be taken in by one run."""
        answer = self._answers.get(sequence)
        while answer and answer.forced and sequence in self._answers:
            yield from self._pushed(answer, self._scheduler.append(sequence, answer.forced[0]))

    def _forget(self, sequence: int) -> None:
        """Lets go of the answer of a sequence that is gone."""
        request = self._answers.pop(sequence).request
        self._timed.pop(sequence, None)
        self._choices[request.id].discard(sequence)
        if not self._choices[request.id]:
            del self._choices[request.id]
            self._sight.let_go(request.pictures)

    # ------------------------------------------------------------------------------------- inbox

    def _drain_inbox(self) -> bool:
        """Takes in everything that waits, and waits itself while there is nothing else to do."""
        while not (self._inbox.empty() and self._answers):
            match self._next_item():
                case Closed():
                    return False
                case Arrived(request_id):
                    self._encoding[request_id] = False
                case Encoded() as request:
                    if self._encoding.pop(request.id):
                        self._sight.let_go(request.pictures)
                    else:
                        self._admit(request)
                case Unencodable(request_id, error):
                    if not self._encoding.pop(request_id):
                        self._send(Refused(request_id, error))
                case Cancel(request_id):
                    self._cancel(request_id)
        return True

    def _next_item(self) -> InboxItem:
        """The next item of the inbox. What a long wait makes superfluous is given back meanwhile."""
        if self._answers or not self._inbox.empty():
            return self._inbox.get()
        self._settle()
        try:
            return self._inbox.get(timeout=_TRIM_SECONDS)
        except Empty:
            self._backend.trim()
        try:
            return self._inbox.get(timeout=self._cache_idle_seconds)
        except Empty:
            self._scheduler.forget()
            self._sight.close()
            self._settle()
        return self._inbox.get()

    def _settle(self) -> None:
        """Carries out what the scheduler still wants done to the slots, though no step follows."""
        self._sight.look()
        if plan := self._scheduler.schedule(Allowance(0)):
            self._backend.forward(plan)

    def _admit(self, request: Encoded) -> None:
        # Counted against the slots too: of requests that come in one step, some will find one free.
        choices = request.generation.unfinished
        if len(self._answers) + len(choices) > max(
            self._most_requests, len(choices) if not self._answers else 0
        ):
            self._sight.let_go(request.pictures)
            self._send(Refused(request.id, self._queue_full()))
            return
        told = self._text.told(request.prompt_ids)
        self._send(Admitted(request.id, told, self._echoed(request), request.dropped, request.image_tokens))
        if not choices:  # all had ended already
            self._sight.let_go(request.pictures)
            return
        numbers = [request.id, *islice(self._further, len(choices) - 1)]
        self._choices[request.id] = set(numbers)
        for choice, number in zip(choices, numbers, strict=True):
            answer = self._answers[number] = Answer.begin(request, choice, self._text, self._clock)
            if answer.over_at is not None:
                self._timed[number] = answer
        pieces = [piece for number in numbers if (piece := self._queued(number))]
        if pieces:
            self._report(tuple(pieces))

    def _queued(self, number: int) -> Piece | None:
        """Puts a choice into the queue, behind what there is of it; gives what it comes to without a step."""
        answer = self._answers.get(number)
        if answer is None:  # refused with another choice of its request
            return None
        request, sequence = answer.request, self._sequence(number, answer.request)
        try:
            end = caught_up(answer, sequence, self._echoed(request), self._scheduler.max_length)
        except DiplexError as error:
            self._refuse(number, error)
            return None
        if end is not None:
            self._forget(number)
            return end
        self._scheduler.add(sequence)
        if request.grammar is None or request.generation.output.logprobs is not None:
            return None
        pieces = tuple(self._jumped(number))
        return joined(pieces) if pieces else None

    def _echoed(self, request: Encoded) -> str:
        if not request.generation.output.echo:
            return ""
        match request.generation.input:
            case Prompt(text):
                return text
            case _:
                return self._text.tokenizer.decode(request.prompt_ids, skip_special_tokens=False)

    def _sequence(self, number: int, request: Encoded) -> Sequence:
        """A choice as the scheduler sees it."""
        generation, stopping = request.generation, request.generation.stopping
        patience = request.arrived_at + _PATIENCE
        # Penalties change with every token, also with one that a guess only supposes.
        # So does a grammar's state.
        changing = generation.sampling.penalises or request.grammar is not None
        speculated = self._speculation is not None and not changing
        return Sequence(
            number,
            request.prompt_ids,
            stopping.max_tokens,
            frozenset(self._text.description.eos_token_ids),
            frozenset(stopping.stop_token_ids),
            generation.priority,
            client=generation.client,
            due=patience if generation.deadline is None else min(patience, generation.deadline),
            lookup=PromptLookup() if speculated else None,
            pictures=request.pictures,
            undivided=self._undivided,
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
            return
        for sequence in tuple(self._choices.get(request_id, ())):
            self._scheduler.remove(sequence)
            self._forget(sequence)
        if not self._answers:
            self._report(())

    # ------------------------------------------------------------------------------------ report

    def _measure(self, plan: StepPlan, result: StepResult, committed: list[Committed]) -> None:
        """Books what a step took."""
        prefilled, decoded = plan.prompt_tokens, len(plan.rows)
        self._sight.stepped(result.prefill_seconds + result.decode_seconds)
        self._budget.record(plan, result.prefill_seconds, result.decode_seconds)
        if prefilled:
            self._prefill_rate.add(prefilled, result.prefill_seconds)
        if decoded:
            self._decode_rate.add(len(committed) - sum(c.last for c in plan.complete), result.decode_seconds)
        if self._speculation and decoded and not prefilled:
            guessed = Counter(token.sequence for token in committed if token.guessed)
            tried = {row.sequence: (len(row.drafts), guessed[row.sequence]) for row in plan.rows}
            self._speculation.record(tried, result.decode_seconds)

    def _report(self, pieces: tuple[Piece, ...], begun: Collection[Choice] = ()) -> None:
        load = Load(
            self._scheduler.busy,
            self._scheduler.queued,
            round(self._prefill_rate.per_second, 1),
            round(self._decode_rate.per_second, 1),
        )
        streams = sum(answer.streams for answer in self._answers.values())
        self._beat.step(pieces, load, streams, begun)
