"""A model's claim on memory: what it has been given, who uses it, and for whom it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from workers.runtime.supervisor.residency import Resident
from workers.runtime.supervisor.terms import Terms


class Tenancy:
    """Counts the uses of a model, and is what it holds memory by.

    Args:
        name: The model's, as messages name it.
        terms: How it is served.
        on_the_way: Whether it is being loaded or restarted.
        waits: Called with what it waits for, for a person.
        idle: Called when its last use has ended.
        unwanted: Called when nobody waits any longer for a model that waits for memory.
    """

    def __init__(
        self,
        name: str,
        terms: Terms,
        *,
        on_the_way: Callable[[], bool],
        waits: Callable[[str], None],
        idle: Callable[[], None],
        unwanted: Callable[[], None],
    ) -> None:
        self.name = name
        self.terms = terms
        self.reserved = 0
        """Bytes of the budget that it has been given."""
        self.last_used = asyncio.get_running_loop().time()
        """When its last request ended, or it was ready, on the loop's clock."""
        self.leaving = False
        """It is being unloaded, and its memory is not free yet."""
        self._uses = 0  # requests that wait for it or run
        self._waits_for = ""
        self._on_the_way = on_the_way
        self._say_waits = waits
        self._idle = idle
        self._unwanted = unwanted

    @property
    def busy(self) -> bool:
        """Whether somebody needs it, or it is on its way to be ready or to be gone."""
        return self._uses > 0 or self.leaving or self._on_the_way()

    @property
    def resident(self) -> Resident:
        """Itself as the policy of residency sees it."""
        return Resident(
            self.name,
            self.reserved,
            busy=self.busy,
            pinned=self.terms.pinned,
            last_used=self.last_used,
            keep_alive=self.terms.keep_alive,
        )

    @contextmanager
    def used(self) -> Iterator[None]:
        """Counts a request while it lasts."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self.touch()
            if not self._uses:
                self._idle()
                self._look_for_users()

    def touch(self) -> None:
        """Says that it was used just now."""
        self.last_used = asyncio.get_running_loop().time()

    def keep(self) -> None:
        """Says that it was asked for by itself."""
        self.terms = replace(self.terms, lasting=True)

    def waits(self, reason: str) -> None:
        """Told for whose memory it waits, for a person; the empty string when it waits no longer."""
        if reason != self._waits_for:
            self._waits_for = reason
            if reason:
                self._say_waits(reason)
        self._look_for_users()

    def _look_for_users(self) -> None:
        if self._waits_for and not self._uses and not self.terms.lasting:
            self._unwanted()
