"""Which pictures an engine knows, what names their features have, and whose features are kept.

A picture is known by its content and the options it is seen with. It gets a number and a block of negative
token ids, one for each row of its features. Ids are never used again, so what a slot of the KV cache holds
under them is that picture's forever, and two pictures never share cached tokens.

Features are kept under a budget of bytes. Whoever needs a picture *pins* it, from when its request is encoded
until it has ended; of those that nobody needs, the ones unused for longest are forgotten first. A picture
that was never encoded to its end is forgotten as soon as nobody needs it.

Used by the threads that encode requests and by the engine's.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diplex.errors import QueueFull, ResourceExhausted
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Tiles

_FIRST: Final = -2
"""The first id; -1 marks nothing in many places."""
_MOST_WAITING: Final = 256 * 2**20
"""Bytes of tiles that wait to be encoded; a picture of 17 tiles of 512 pixels has 13 MiB."""


@dataclass(slots=True, eq=False)
class Picture:
    """A picture that somebody asks about."""

    number: int
    ids: range
    """Of all its rows of features, in the order of their tiles."""
    rows: tuple[int, ...]
    """Of each tile."""
    tiles: Tiles | None = field(repr=False)
    """Its tiles until all are encoded."""
    encoded: int = 0
    """Tiles whose features there are; they are encoded in their order."""
    pins: int = 0
    """How many need it."""

    @property
    def complete(self) -> bool:
        """Whether all features are there."""
        return self.encoded == len(self.rows)

    @property
    def next_ids(self) -> range:
        """Ids of the rows of the tile that is to be encoded next."""
        begin = sum(self.rows[: self.encoded])
        return self.ids[begin : begin + self.rows[self.encoded]]


def picture_key(data: bytes, options: ImageOptions) -> bytes:
    """What a picture is known by: its content and how it is seen."""
    digest = hashlib.sha256(repr(options).encode())
    digest.update(data)
    return digest.digest()


class Gallery:
    """Pictures by their keys.

    Args:
        budget: Bytes of features to be kept, those that are needed included.
        row_bytes: Bytes of a row.
        most_waiting: Bytes of tiles that may wait to be encoded.
    """

    def __init__(self, budget: int, row_bytes: int, most_waiting: int = _MOST_WAITING) -> None:
        self._budget = budget
        self._row_bytes = row_bytes
        self._most_waiting = most_waiting
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()  # key -> picture, oldest use first
        self._keys: dict[int, bytes] = {}  # number -> key
        self._forgotten: list[range] = []
        self._next_number = 0
        self._next_id = _FIRST
        self._lock = threading.Lock()

    @property
    def kept(self) -> int:
        """Bytes of features that there are or will be when all is encoded."""
        with self._lock:
            return self._kept()

    def pin(self, key: bytes, layout: Layout, tiles: Callable[[], Tiles]) -> Picture:
        """The picture of a key, pinned.

        Args:
            key: See :func:`picture_key`.
            layout: How many rows it comes to.
            tiles: Makes its tiles; called only for a picture that isn't known.

        Raises:
            ResourceExhausted: It alone exceeds the budget.
            QueueFull: It doesn't fit beside those that are needed, or too many tiles wait.
        """
        with self._lock:
            known = self._pinned(key)
        if known is not None:
            return known
        made = tiles()
        with self._lock:
            return self._pinned(key) or self._hung(key, layout.rows, made)

    def unpin(self, pictures: Sequence[Picture]) -> None:
        """Somebody who pinned these doesn't need them any longer."""
        with self._lock:
            for picture in pictures:
                picture.pins -= 1
                if not picture.pins and not picture.complete:
                    self._forget(self._keys[picture.number])

    def pixels(self, number: int, index: int) -> NDArray[np.float32]:
        """One tile of a picture whose tiles aren't all encoded, ``[1, 3, height, width]``."""
        tiles = self._picture(number).tiles
        assert tiles is not None  # noqa: S101  # only a complete picture has none
        return tiles.pixels(index)

    def advance(self, number: int) -> None:
        """The next tile of a picture is encoded."""
        picture = self._picture(number)
        with self._lock:
            picture.encoded += 1
            if picture.complete:
                picture.tiles = None

    def clear(self) -> None:
        """Forgets all that nobody needs."""
        with self._lock:
            self._evict(self._kept())

    def take_forgotten(self) -> list[range]:
        """Ids of pictures whose features the eyes may let go of, since the last call."""
        if not self._forgotten:
            return []
        with self._lock:
            taken, self._forgotten = self._forgotten, []
            return taken

    def _picture(self, number: int) -> Picture:
        with self._lock:
            return self._pictures[self._keys[number]]

    # ----------------------------------------------------------------------------- under the lock

    def _pinned(self, key: bytes) -> Picture | None:
        if picture := self._pictures.get(key):
            picture.pins += 1
            self._pictures.move_to_end(key)
        return picture

    def _hung(self, key: bytes, rows: tuple[int, ...], tiles: Tiles) -> Picture:
        needed = sum(rows) * self._row_bytes
        self._check(needed, tiles.nbytes)
        self._evict(self._kept() + needed - self._budget)
        end = self._next_id - sum(rows)
        picture = Picture(self._next_number, range(self._next_id, end, -1), rows, tiles, pins=1)
        self._next_number, self._next_id = self._next_number + 1, end
        self._pictures[key] = picture
        self._keys[picture.number] = key
        return picture

    def _check(self, needed: int, waiting: int) -> None:
        if needed > self._budget:
            raise ResourceExhausted(
                f"the picture's features take {needed} bytes and {self._budget} are there for all: "
                "split it less, or give more with --image-cache-mib"
            )
        pictures = self._pictures.values()
        pinned = sum(len(picture.ids) for picture in pictures if picture.pins) * self._row_bytes
        if pinned + needed > self._budget:
            raise QueueFull("the features of all pictures asked about don't fit; try again", retry_after=1.0)
        before = sum(picture.tiles.nbytes for picture in pictures if picture.tiles)
        if before and before + waiting > self._most_waiting:
            raise QueueFull("too many pictures wait to be seen; try again", retry_after=1.0)

    def _kept(self) -> int:
        return sum(len(picture.ids) for picture in self._pictures.values()) * self._row_bytes

    def _evict(self, excess: int) -> None:
        """Forgets at least so many bytes, or all that nobody needs; what is unused for longest goes first."""
        for key, picture in list(self._pictures.items()):
            if excess <= 0:
                return
            if not picture.pins:
                excess -= len(picture.ids) * self._row_bytes
                self._forget(key)

    def _forget(self, key: bytes) -> None:
        picture = self._pictures.pop(key)
        del self._keys[picture.number]
        picture.tiles = None
        self._forgotten.append(picture.ids)
