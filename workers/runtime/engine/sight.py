"""The eyes of an engine: when they look, what they keep and what they may forget. Of the engine's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workers.runtime.engine.backend import Eyes
from workers.runtime.engine.pacing import TilePacing
from workers.runtime.engine.plan import Tile
from workers.runtime.vision import Gallery, Picture


class Sight:
    """Carries out what plans say of pictures. Without eyes there is nothing to do.

    Args:
        eyes: The backend's.
        gallery: The pictures that the engine knows; ``None`` without eyes.
        clock: Seconds of the monotonic clock.
    """

    def __init__(self, eyes: Eyes | None, gallery: Gallery | None, clock: Callable[[], float]) -> None:
        self._open = (eyes, gallery) if eyes is not None and gallery is not None else None
        self._clock = clock
        self._pacing = TilePacing()

    def allows(self, decoding: int) -> bool:
        """Whether the next step may encode a tile while it decodes so many rows."""
        return self._pacing.allows(decoding)

    def look(self, tile: Tile | None = None) -> None:
        """Has a tile encoded, if there is one, and what isn't needed any longer forgotten."""
        if self._open is None:
            return
        eyes, gallery = self._open
        for ids in gallery.take_forgotten():
            eyes.forget(ids)
        if tile is not None:
            began = self._clock()
            eyes.encode(tile.ids, gallery.pixels(tile.picture, tile.index))
            gallery.advance(tile.picture)
            self._pacing.encoded(self._clock() - began)

    def stepped(self, seconds: float) -> None:
        """The rest of a step took so long."""
        self._pacing.stepped(seconds)

    def let_go(self, pictures: Sequence[Picture]) -> None:
        """A request doesn't need its pictures any longer."""
        if self._open is not None and pictures:
            self._open[1].unpin(pictures)

    def close(self) -> None:
        """Forgets all that no request needs."""
        if self._open is not None:
            self._open[1].clear()
