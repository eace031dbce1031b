"""Carrying out what a plan wants done to slots, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from workers.runtime.engine.plan import Change, Copy, Release, Swap


class Slots(Protocol):
    """Keys and values of sequences."""

    def swap(self, a: int, b: int) -> None:
        """Exchanges what two slots hold."""

    def copy(self, source: int, target: int, start: int, end: int) -> None:
        """Copies tokens ``start … end-1`` of a slot to the same place in another."""

    def release(self, slot: int, keep: int) -> None:
        """Nothing behind a slot's first ``keep`` tokens is needed any longer."""


def carry_out(changes: Iterable[Change], slots: Slots) -> None:
    """Carries out changes in their order."""
    for change in changes:
        match change:
            case Swap(a, b):
                slots.swap(a, b)
            case Copy(source, target, start, end):
                slots.copy(source, target, start, end)
            case Release(slot, keep):
                slots.release(slot, keep)
