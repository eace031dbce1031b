"""Where what an engine says about one request waits for whoever streams it on."""

from __future__ import annotations

import asyncio
from collections import deque

from diplex.errors import DiplexError
from workers.runtime.engine.messages import Admitted, Counted, Piece

Mail = Admitted | Piece | Counted


class Mailbox:
    """A queue in which pieces that wait are merged into one, so a slow reader gets fewer, larger ones."""

    def __init__(self) -> None:
        self._mail: deque[Mail | DiplexError] = deque()
        self._arrived = asyncio.Event()

    def put(self, mail: Mail | DiplexError) -> None:
        """Adds mail; never blocks."""
        if isinstance(mail, Piece) and self._mail and isinstance(waiting := self._mail[-1], Piece):
            self._mail[-1] = _merged(waiting, mail)
        else:
            self._mail.append(mail)
        self._arrived.set()

    async def get(self) -> Mail:
        """The next mail.

        Raises:
            DiplexError: The engine refused the request, or died.
        """
        while not self._mail:
            self._arrived.clear()
            await self._arrived.wait()
        mail = self._mail.popleft()
        if isinstance(mail, DiplexError):
            raise mail
        return mail


def _merged(first: Piece, second: Piece) -> Piece:
    return Piece(first.id, first.text + second.text, first.token_ids + second.token_ids, second.finish)
