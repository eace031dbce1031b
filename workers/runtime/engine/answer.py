"""One choice's output: from tokens to text that is final, and to how it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from workers.runtime.engine.constraint import CallConstraint, Constraint
from workers.runtime.engine.intake import Encoded
from workers.runtime.engine.messages import Logprob, Piece
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import Finish, FinishReason, Timings
from workers.runtime.sampling import Banned, LogitBias, SamplingRow, TokenCounts, TokenLogprob
from workers.runtime.text.detokenizer import Detokenizer
from workers.runtime.text.stopping import StopMatcher
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.tools.reading import ToolCallPiece

_LAST_PART = 4
"""One in so many tokens, the last ones, is for closing the JSON that is open."""
_ENDED_BY_TOKEN = frozenset({FinishReason.END_OF_SEQUENCE, FinishReason.STOP})


@dataclass(slots=True)
class Clocked:
    """When the stations of a sequence were passed, in seconds of the monotonic clock."""

    arrived: float
    started: float | None = None
    first_token: float | None = None

    def timings(self, now: float) -> Timings:
        """Where the time went, for a sequence that ends now."""
        first_token = now if self.first_token is None else self.first_token
        # A grammar may give the first tokens before any step.
        started = min(now if self.started is None else self.started, first_token)
        return Timings(started - self.arrived, first_token - started, now - first_token, self.arrived)


@dataclass(slots=True)
class Answer:
    """The output side of a running sequence: one choice of a request."""

    request: Encoded
    choice: int
    tokenizer: Tokenizer
    detokenizer: Detokenizer
    stops: StopMatcher
    clocked: Clocked
    counts: TokenCounts | None
    """Kept only when a penalty needs it."""
    bias: LogitBias | None
    early: Banned | None
    """What can't be chosen before the fewest tokens are there."""
    constraint: Constraint | None
    """What says which tokens may come, if there are rules for it."""
    clock: Callable[[], float]
    generated: int = 0
    cached: int = 0
    """Tokens of the prompt that the prefix cache held."""
    guessed: int = 0
    """Tokens that speculation had guessed."""
    ahead: int = 0
    """Characters of the next text that the caller has already."""

    @classmethod
    def begin(cls, request: Encoded, choice: int, text: ModelText, clock: Callable[[], float]) -> Answer:
        """The empty answer to a request."""
        sampling, stopping = request.generation.sampling, request.generation.stopping
        description = text.description
        ends = (*description.eos_token_ids, *stopping.stop_token_ids)
        return cls(
            request,
            choice,
            text.tokenizer,
            Detokenizer(text.tokenizer),
            StopMatcher(stopping.stop),
            Clocked(request.arrived_at),
            TokenCounts(text.told(request.prompt_ids), description.vocab_size)
            if sampling.penalises
            else None,
            LogitBias(dict(sampling.logit_bias)) if sampling.logit_bias else None,
            Banned(token for token in ends if token < description.vocab_size)
            if stopping.min_tokens
            else None,
            _constraint(request, text),
            clock,
        )

    def row(self, ahead: int = 0) -> SamplingRow:
        """What the sampler has to know for the next token, or for one some tokens ``ahead`` of it."""
        position = self.generated + ahead
        return SamplingRow(
            self.request.generation.sampling,
            position,
            self.choice,
            self.counts,
            self.bias,
            self.early if position < self.request.generation.stopping.min_tokens else None,
        )

    @property
    def forced(self) -> deque[int] | None:
        """The next tokens, where there is no choice."""
        return self.constraint.forced if self.constraint else None

    @property
    def streams(self) -> bool:
        """Whether it has begun, and somebody reads along."""
        return self.generated > 0 and not self.request.generation.output.whole

    def little_room(self, max_length: int) -> bool:
        """Whether the last part of the tokens has begun that it may have, in sequences of ``max_length``."""
        most = max_length - len(self.request.prompt_ids)
        if (limit := self.request.generation.stopping.max_tokens) is not None:
            most = min(most, limit)
        return self.generated >= most - most // _LAST_PART

    def start(self) -> None:
        """Marks the first step that works on the sequence."""
        if self.clocked.started is None:
            self.clocked.started = self.clock()

    def push(
        self,
        token: int,
        finish: FinishReason | None,
        *,
        guessed: bool = False,
        logprob: TokenLogprob | None = None,
    ) -> Piece:
        """Takes the next token and, if the scheduler ended the sequence with it, why.

        A token that ends the sequence by itself is not part of the output. The piece has a ``finish`` when
        the sequence has ended, be it by a stop string that only the text shows.
        """
        self._count(token)
        self.guessed += guessed
        if finish in _ENDED_BY_TOKEN:
            if finish is FinishReason.END_OF_SEQUENCE and self.constraint and self.constraint.called:
                return self._piece("", (), FinishReason.TOOL_CALLS, at_end=True)
            return self._piece("", (), finish, match=token, at_end=True)
        text = self.detokenizer.push((token,))
        calls: tuple[ToolCallPiece, ...] = ()
        if self.constraint is not None:
            self.constraint.accept(token)
            text, calls = self.constraint.read(text)
            finish = self.constraint.over or finish
        text, stop = self._stopped(text)
        if stop is not None:
            finish = FinishReason.STOP
        piece = self._piece(text, (token,), finish, match=stop, at_end=finish is not None and stop is None)
        logprobs = (self._told(logprob),) if logprob else ()
        return piece._replace(logprobs=logprobs, calls=calls) if logprobs or calls else piece

    @property
    def over_at(self) -> float | None:
        """When its time is over, on the clock; ``None`` if it has all the time in the world."""
        seconds = self.request.generation.stopping.seconds
        return None if seconds is None else self.request.arrived_at + seconds

    def end(self, reason: FinishReason) -> Piece:
        """Ends with what there is, and gives what was still held back of it."""
        return self._piece("", (), reason, at_end=True)

    def _stopped(self, text: str) -> tuple[str, str | None]:
        """What may go out of new text, and the stop string that it completes."""
        if self.generated < self.request.generation.stopping.min_tokens:
            return text, None
        return self.stops.push(text)

    def _told(self, logprob: TokenLogprob) -> Logprob:
        bytes_of = self.tokenizer.token_bytes
        top = tuple(Logprob(token, bytes_of(token), value) for token, value in logprob.top)
        return Logprob(logprob.token_id, bytes_of(logprob.token_id), logprob.logprob, top)

    def _piece(
        self,
        text: str,
        token_ids: tuple[int, ...],
        reason: FinishReason | None,
        *,
        match: str | int | None = None,
        at_end: bool = False,
    ) -> Piece:
        if at_end:
            held, stop = self._stopped(self.detokenizer.flush() + self._unopened())
            text += held
            if stop is not None:
                reason, match = FinishReason.STOP, stop
            else:
                text += self.stops.flush()
        finish = None if reason is None else self._finish(reason, match)
        if self.ahead:
            text, self.ahead = text[self.ahead :], max(0, self.ahead - len(text))
        return Piece(self.request.id, text, token_ids, finish, self.choice)

    def _unopened(self) -> str:
        return self.constraint.flush() if self.constraint else ""

    def _count(self, token: int) -> None:
        if self.clocked.first_token is None:
            self.clocked.first_token = self.clock()
        self.generated += 1
        if self.counts is not None:
            self.counts.add(token)

    def _finish(self, reason: FinishReason, match: str | int | None) -> Finish:
        prompt_tokens = len(self.request.prompt_ids)
        timings = self.clocked.timings(self.clock())
        return Finish(
            reason,
            match,
            prompt_tokens,
            self.generated,
            timings,
            self.cached,
            self.guessed,
            self.request.image_tokens,
        )


def _constraint(request: Encoded, text: ModelText) -> Constraint | None:
    if request.grammar is None:
        return None
    if use := request.generation.tools:
        form = text.call_form(use)
        return CallConstraint(request.grammar, use, form, text.tokenizer, request.closing)
    return Constraint(request.grammar, text.tokenizer, request.closing)
