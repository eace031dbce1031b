"""Where what an engine says about one request waits for whoever streams it on."""

from __future__ import annotations

import asyncio
from collections import deque

from diplex.errors import DiplexError
from workers.runtime.engine.messages import Admitted, Counted, Piece, joined

Mail = Admitted | Piece | Counted


class Mailbox:
    """A queue in which pieces that wait are merged, a choice each, so a slow reader gets fewer, larger ones.

    Args:
        whole: Pieces wait for the last one.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._mail: deque[Admitted | Counted | DiplexError | dict[int, list[Piece]]] = deque()
        self._ready = 0  # mail in front that the reader may have; what is behind is held
        self._released = asyncio.Event()  # set while there is such mail

    def put(self, mail: Mail | DiplexError) -> None:
        """Adds mail, which the reader gets at once, and with it whatever was held; never blocks."""
        if isinstance(mail, Piece):
            self._add(mail)
            if self._whole and mail.finish is None:
                return
        else:
            self._mail.append(mail)
        self._ready = len(self._mail)
        self._released.set()

    def _add(self, piece: Piece) -> None:
        if not self._mail or not isinstance(self._mail[-1], dict):
            self._mail.append({})
        waiting = self._mail[-1]
        assert isinstance(waiting, dict)  # noqa: S101  # made above
        waiting.setdefault(piece.choice, []).append(piece)

    async def get(self) -> Mail:
        """The next mail.

        Raises:
            DiplexError: The engine refused the request, or died.
        """
        await self._released.wait()
        mail = self._mail[0]
        found = joined(mail.pop(next(iter(mail)))) if isinstance(mail, dict) else mail
        if not isinstance(mail, dict) or not mail:
            self._mail.popleft()
            self._ready -= 1
            if not self._ready:
                self._released.clear()
        if isinstance(found, DiplexError):
            raise found
        return found
