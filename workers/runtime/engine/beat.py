"""How often the pieces of running streams go on: with every step while few run, else on a common beat.

A message costs the supervisor, the gateway and the client together 0.2 to 1 ms of CPU, on the cores that the
engine computes on. So the messages of all streams are bounded, whatever the number of tokens: the more
run, the longer each one's pieces are collected. All are sent at the same moments, since many messages at once
cost less than as many one by one, and here, so that the supervisor sleeps meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from workers.runtime.engine.messages import Choice, FromEngine, Load, Piece, Stepped, joined

DEFAULT_MESSAGES_PER_SECOND: Final = 120.0
"""At 32 streams a message a stream every 200 ms: ``docs/decisions/0009-messages-on-a-beat.md``."""

UNTOUCHED_STREAMS: Final = 8
"""Up to so many streams get a message a step each."""


class Beat:
    """Sends what an engine has to say, pieces of many streams on the beat.

    The first pieces of a stream and its last are never held, and what is held of it goes with them.

    Args:
        send: Takes messages for the supervisor.
        clock: Seconds.
        messages_per_second: What the messages of all streams come to when there are many; with few more
            than ``UNTOUCHED_STREAMS`` it can be more. 0 or less: nothing is ever held.
    """

    def __init__(
        self,
        send: Callable[[FromEngine], None],
        clock: Callable[[], float],
        messages_per_second: float = DEFAULT_MESSAGES_PER_SECOND,
    ) -> None:
        self._send = send
        self._clock = clock
        self._rate = messages_per_second
        self._held: dict[Choice, list[Piece]] = {}
        self._last = float("-inf")  # when it last beat
        self._stepped = float("-inf")  # when the last step ended
        self._load: Load | None = None  # as it was sent last

    def interval(self, streams: int) -> float:
        """Seconds between two beats of so many streams; 0 while every piece goes on at once."""
        if self._rate <= 0:
            return 0.0
        return max(0, streams - UNTOUCHED_STREAMS) / self._rate

    def step(
        self, pieces: Collection[Piece], load: Load, streams: int, begun: Collection[Choice] = ()
    ) -> None:
        """Takes what a step has come to, and sends what is due.

        Args:
            pieces: One a choice.
            load: How busy the engine is.
            streams: Sequences that have begun and that somebody reads along with.
            begun: Choices that begin with this step.
        """
        for piece in pieces:
            self._held.setdefault(piece.of, []).append(piece)
        now, before = self._clock(), self._stepped
        self._stepped = now
        # It beats with the step that ends nearest to the moment.
        if now + (now - before) / 2 >= self._last + self.interval(streams):
            self._last = now
            due = list(self._held)
        else:
            due = [piece.of for piece in pieces if piece.finish is not None or piece.of in begun]
        if due or (load != self._load and not self._held):
            self._release(due, load)

    def flush(self, request: int | None = None) -> None:
        """Sends what is held: of all requests, or of one."""
        due = [choice for choice in self._held if request is None or choice[0] == request]
        if due and self._load is not None:
            self._release(due, self._load)

    def _release(self, due: Collection[Choice], load: Load) -> None:
        self._load = load
        self._send(Stepped(tuple(joined(self._held.pop(choice)) for choice in due), load))
