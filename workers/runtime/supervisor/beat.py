"""How often the deltas of running streams go on: with every step while few run, else on a common beat.

A message costs the supervisor, the gateway and the client together 0.2 to 1 ms of CPU, on the cores that the
engine computes on. So the messages of all streams are bounded, whatever the number of tokens: the more
streams run, the longer each one's pieces are collected. All are sent at the same moments, since many messages
at once cost less than as many one by one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from workers.runtime.engine.messages import Piece
from workers.runtime.supervisor.mailbox import Mailbox

DEFAULT_MESSAGES_PER_SECOND: Final = 120.0
"""At 32 streams a message a stream every 200 ms: ``docs/decisions/0009-messages-on-a-beat.md``."""

UNTOUCHED_STREAMS: Final = 8
"""Up to so many streams get a message a step each."""


class Beat:
    """Decides when pieces that mailboxes hold are released; one for all engines of a worker, in one loop.

    The first piece of a stream and its last are never held.

    Args:
        messages_per_second: What the messages of all streams come to when there are many; with few more than
            ``UNTOUCHED_STREAMS`` it can be more. 0 or less: nothing is ever held.
    """

    def __init__(self, messages_per_second: float = DEFAULT_MESSAGES_PER_SECOND) -> None:
        self.streams = 0
        """Streams that have begun and not ended."""
        self._rate = messages_per_second
        self._held: dict[Mailbox, None] = {}  # in the order in which they came
        self._last = float("-inf")  # when it last beat, on the loop's clock
        self._timer: asyncio.TimerHandle | None = None

    @property
    def interval(self) -> float:
        """Seconds between two beats; 0 while every piece goes on at once."""
        if self._rate <= 0:
            return 0.0
        return max(0, self.streams - UNTOUCHED_STREAMS) / self._rate

    def add(self, mailbox: Mailbox, piece: Piece) -> None:
        """Puts a piece of a step into its mailbox; :meth:`step_ended` comes behind the last one."""
        first = not mailbox.begun and not mailbox.whole
        self.streams += first
        if first or piece.finish is not None:
            mailbox.put(piece)
            return
        mailbox.hold(piece)
        if not mailbox.whole:
            self._held[mailbox] = None

    def step_ended(self) -> None:
        """Releases what is held if it is time, else sees to it that it will be."""
        if not self._held:
            return
        now = asyncio.get_running_loop().time()
        due = self._last + self.interval
        if now >= due:
            self._release(now)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(due, self._strike)

    def leave(self, mailbox: Mailbox) -> None:
        """Says that nobody reads a mailbox any longer."""
        if mailbox.begun and not mailbox.whole:
            self.streams -= 1

    def _strike(self) -> None:
        self._release(asyncio.get_running_loop().time())

    def _release(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._last = now
        for mailbox in self._held:
            mailbox.release()
        self._held.clear()
