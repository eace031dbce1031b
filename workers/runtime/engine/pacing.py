"""When a tile may be encoded beside running streams. Pure.

A tile takes several times as long as a step of decoding, and can't be cut. So streams are kept from standing
still by what follows: after a tile, they get a multiple of the time that it took before the next one.
"""

from __future__ import annotations

from typing import Final

STREAMS_PER_TILE: Final = 3.0
"""Seconds of steps without a tile that follow each second of encoding. With 2, eight streams beside eight
clients with pictures kept 0.4 to 0.5 of their speed, with 4, 0.67: prompts and answers of the others take
their part."""


class TilePacing:
    """Lets tiles in or not, by what steps took."""

    def __init__(self) -> None:
        self._owed = 0.0  # seconds of steps without a tile

    def allows(self, decoding: int) -> bool:
        """Whether the next step may encode a tile while it decodes so many rows."""
        return not decoding or self._owed <= 0

    def encoded(self, seconds: float) -> None:
        """A tile took so long."""
        self._owed = STREAMS_PER_TILE * seconds

    def stepped(self, seconds: float) -> None:
        """The rest of a step took so long."""
        self._owed = max(self._owed - seconds, 0.0)
