"""One sequence's output: from tokens to text that is final, and to how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workers.runtime.engine.intake import Encoded
from workers.runtime.engine.messages import Piece
from workers.runtime.generation import Finish, FinishReason, Timings
from workers.runtime.sampling import SamplingRow, TokenCounts
from workers.runtime.text.detokenizer import Detokenizer
from workers.runtime.text.stopping import StopMatcher
from workers.runtime.text.tokenizer import Tokenizer

_ENDED_BY_TOKEN = frozenset({FinishReason.END_OF_SEQUENCE, FinishReason.STOP})


@dataclass(slots=True)
class Clocked:
    """When the stations of a sequence were passed, in seconds of the monotonic clock."""

    arrived: float
    started: float | None = None
    first_token: float | None = None

    def timings(self, now: float) -> Timings:
        """Where the time went, for a sequence that ends now."""
        started = now if self.started is None else self.started
        first_token = now if self.first_token is None else self.first_token
        return Timings(started - self.arrived, first_token - started, now - first_token)


@dataclass(slots=True)
class Answer:
    """The output side of a running sequence."""

    request: Encoded
    detokenizer: Detokenizer
    stops: StopMatcher
    clocked: Clocked
    counts: TokenCounts | None
    """Kept only when a penalty needs it."""
    clock: Callable[[], float]
    generated: int = 0
    cached: int = 0
    """Tokens of the prompt that the prefix cache held."""
    guessed: int = 0
    """Tokens that speculation had guessed."""

    @classmethod
    def begin(
        cls, request: Encoded, tokenizer: Tokenizer, vocab_size: int, clock: Callable[[], float]
    ) -> Answer:
        """The empty answer to a request."""
        generation = request.generation
        penalises = generation.sampling.penalises
        return cls(
            request,
            Detokenizer(tokenizer),
            StopMatcher(generation.stopping.stop),
            Clocked(request.arrived_at),
            TokenCounts(request.prompt_ids, vocab_size) if penalises else None,
            clock,
        )

    def row(self, ahead: int = 0) -> SamplingRow:
        """What the sampler has to know for the next token, or for one some tokens ``ahead`` of it."""
        return SamplingRow(self.request.generation.sampling, self.generated + ahead, tokens=self.counts)

    def start(self) -> None:
        """Marks the first step that works on the sequence."""
        if self.clocked.started is None:
            self.clocked.started = self.clock()

    def push(self, token: int, finish: FinishReason | None, *, guessed: bool = False) -> Piece:
        """Takes the next token and, if the scheduler ended the sequence with it, why.

        A token that ends the sequence by itself is not part of the output. The piece has a ``finish`` when
        the sequence has ended, be it by a stop string that only the text shows.
        """
        self._count(token)
        self.guessed += guessed
        if finish in _ENDED_BY_TOKEN:
            return self._piece("", (), finish, match=token, at_end=True)
        text, stop = self.stops.push(self.detokenizer.push((token,)))
        if stop is not None:
            return self._piece(text, (token,), FinishReason.STOP, match=stop)
        return self._piece(text, (token,), finish, at_end=finish is not None)

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
            held, stop = self.stops.push(self.detokenizer.flush())
            text += held
            if stop is not None:
                reason, match = FinishReason.STOP, stop
            else:
                text += self.stops.flush()
        finish = None if reason is None else self._finish(reason, match)
        return Piece(self.request.id, text, token_ids, finish)

    def _count(self, token: int) -> None:
        if self.generated == 0:
            self.clocked.first_token = self.clock()
        self.generated += 1
        if self.counts is not None:
            self.counts.add(token)

    def _finish(self, reason: FinishReason, match: str | int | None) -> Finish:
        prompt_tokens = len(self.request.prompt_ids)
        timings = self.clocked.timings(self.clock())
        return Finish(reason, match, prompt_tokens, self.generated, timings, self.cached, self.guessed)
