"""Where what an engine says about one request waits for whoever streams it on."""

from __future__ import annotations

import asyncio
from collections import deque

from diplex.errors import DiplexError
from workers.runtime.engine.messages import Admitted, Counted, Piece

Mail = Admitted | Piece | Counted


class Mailbox:
    """A queue in which pieces that wait are merged into one, so a slow reader gets fewer, larger ones.

    Args:
        whole: Pieces wait for the last one.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        self.begun = False
        """Whether a piece has come."""
        self._mail: deque[Admitted | Counted | DiplexError | list[Piece]] = deque()
        self._ready = 0  # mail in front that the reader may have; what is behind is held
        self._released = asyncio.Event()  # set while there is such mail

    def put(self, mail: Mail | DiplexError) -> None:
        """Adds mail that the reader gets at once, and with it whatever was held; never blocks."""
        if isinstance(mail, Piece):
            self.hold(mail)
        else:
            self._mail.append(mail)
        self.release()

    def hold(self, piece: Piece) -> None:
        """Adds a piece that waits for the next :meth:`put` or :meth:`release`."""
        self.begun = True
        if self._mail and isinstance(waiting := self._mail[-1], list):
            waiting.append(piece)
        else:
            self._mail.append([piece])

    def release(self) -> None:
        """Lets the reader have what is held, if there is anything."""
        self._ready = len(self._mail)
        if self._ready:
            self._released.set()

    async def get(self) -> Mail:
        """The next mail.

        Raises:
            DiplexError: The engine refused the request, or died.
        """
        await self._released.wait()
        mail = self._mail.popleft()
        self._ready -= 1
        if not self._ready:
            self._released.clear()
        if isinstance(mail, DiplexError):
            raise mail
        return _merged(mail) if isinstance(mail, list) else mail


def _merged(pieces: list[Piece]) -> Piece:
    """One piece in the place of several of the same request, the last of which may end it."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    return Piece(
        last.id,
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.token_ids),
        last.finish,
    )
