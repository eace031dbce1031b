"""Which workers have which beginnings of prompts in their caches, as far as the gateway sent them there."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gateway.fleet.facts import Prefix

_MOST_HOMES: Final = 4
"""Workers that are remembered for one beginning."""


class Affinity:
    """Remembers a bounded number of beginnings.

    Args:
        entries: How many; beyond it the least recently used go.
    """

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._homes: OrderedDict[bytes, tuple[str, ...]] = (
            OrderedDict()
        )  # name -> addresses, the latest first

    def homes(self, prefix: Prefix) -> tuple[str, ...]:
        """Addresses of the workers that hold the longest known beginning; empty if none does."""
        found = (self._homes.get(point) for point in reversed(prefix.points))
        return next((homes for homes in found if homes), ())

    def remember(self, prefix: Prefix, address: str) -> None:
        """A prompt goes to a worker, which will have all of its beginnings."""
        for point in (*prefix.points, prefix.whole):
            others = (home for home in self._homes.get(point, ()) if home != address)
            self._homes[point] = (address, *others)[:_MOST_HOMES]
            self._homes.move_to_end(point)
        while len(self._homes) > self._entries:
            self._homes.popitem(last=False)
