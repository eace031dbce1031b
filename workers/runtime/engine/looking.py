"""Sequences whose pictures are not all encoded yet, and which tile is next. Pure.

They stand before the queue for slots, in the same fair order, and a tile is encoded for whoever is first: so
of many clients with pictures each gets its turn, tile by tile, and none of them takes a slot before it can be
prefilled. A picture that several sequences show is encoded once.
"""

from __future__ import annotations

from workers.runtime.engine.plan import Tile
from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.waiting import WaitingSequences


class LookingSequences:
    """The sequences."""

    def __init__(self) -> None:
        self._order = WaitingSequences()
        self._sequences: dict[int, Sequence] = {}  # id -> sequence

    def __len__(self) -> int:
        return len(self._sequences)

    def __contains__(self, sequence: Sequence) -> bool:
        return sequence.id in self._sequences

    def add(self, sequence: Sequence) -> None:
        """Takes in a sequence with a picture that isn't complete."""
        self._sequences[sequence.id] = sequence
        self._order.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that nobody waits for any longer."""
        del self._sequences[sequence.id]
        self._order.remove(sequence)

    def next_tile(self) -> Tile | None:
        """What is to be encoded next; ``None`` if there is nothing."""
        sequence = self._order.first()
        picture = sequence.unseen if sequence else None
        if sequence is None or picture is None:
            return None
        return Tile(sequence.id, picture.number, picture.encoded, picture.next_ids)

    def charge(self, tile: Tile) -> None:
        """Books that a tile is encoded for a sequence, if that is still here."""
        if sequence := self._sequences.get(tile.sequence):
            self._order.charge(sequence.client, len(tile.ids))

    def take_seen(self) -> list[Sequence]:
        """Takes out the sequences that have nothing left to be encoded, in the order in which they came."""
        seen = [sequence for sequence in self._sequences.values() if sequence.unseen is None]
        for sequence in seen:
            del self._sequences[sequence.id]
            self._order.admit(sequence)
        return seen
