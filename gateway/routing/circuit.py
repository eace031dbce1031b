"""Workers that fail what others would serve get nothing for a while: one circuit a worker and model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.routing.config import RoutingConfig


class Key(NamedTuple):
    """What a circuit belongs to."""

    address: str
    model: str


@dataclass(slots=True)
class _Circuit:
    recent: deque[bool]
    """Outcomes since it was closed last, the latest last: whether the worker did its part."""
    in_a_row: int = 0
    """Failures since the last success."""
    ejections: int = 0
    """How often it was opened since the worker last did well for as long as ``recent`` goes back."""
    until: float | None = None
    """On the clock, when it may be tried again; ``None`` while it is closed."""
    why: str = ""
    probes: set[int] = field(default_factory=set)
    """The generation that tries it, by its number; at most one."""


class Circuits:
    """Closed: requests go through. Open: none do. After a time one may try, and decides.

    Args:
        config: When they open, and for how long.
        clock: Seconds that only grow.
    """

    def __init__(self, config: RoutingConfig, clock: Callable[[], float]) -> None:
        self._config: Final = config
        self._clock: Final = clock
        self._circuits: dict[Key, _Circuit] = {}

    def ejected(self) -> Mapping[Key, str]:
        """Those that get nothing now, and why, in words that go behind "ejected"."""
        now = self._clock()
        return {
            key: told
            for key, circuit in self._circuits.items()
            if circuit.until is not None and (told := _told(circuit, now))
        }

    def begin(self, key: Key, number: int) -> None:
        """A generation, which the number names, goes to a worker; perhaps as the one that tries it again."""
        circuit = self._circuits.get(key)
        if circuit and circuit.until is not None and not circuit.probes and self._clock() >= circuit.until:
            circuit.probes.add(number)

    def succeeded(self, key: Key, number: int) -> None:
        """The worker did its part."""
        circuit = self._circuits.get(key)
        if circuit is None:
            return
        circuit.in_a_row = 0
        circuit.recent.append(True)
        if number in circuit.probes:
            circuit.probes.clear()
            circuit.recent.clear()
            circuit.until = None
        elif circuit.until is None and self._full(circuit) and all(circuit.recent):
            del self._circuits[key]

    def failed(self, key: Key, number: int, why: str) -> None:
        """The worker failed it."""
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = _Circuit(deque(maxlen=self._config.eject_samples))
        circuit.in_a_row += 1
        circuit.recent.append(False)
        if number in circuit.probes:
            circuit.probes.clear()
            self._open(circuit, f"tried again and failed ({why})")
        elif circuit.until is None:
            self._judge(circuit, why)

    def ended(self, key: Key, number: int) -> None:
        """The generation is over; if it tried a circuit and nothing came of it, another may."""
        if circuit := self._circuits.get(key):
            circuit.probes.discard(number)

    def forget(self, address: str) -> None:
        """The worker is gone."""
        for key in [key for key in self._circuits if key.address == address]:
            del self._circuits[key]

    def _judge(self, circuit: _Circuit, why: str) -> None:
        failures = len(circuit.recent) - sum(circuit.recent)
        if circuit.in_a_row >= self._config.eject_failures:
            self._open(circuit, f"{circuit.in_a_row} failures in a row (the last: {why})")
        elif self._full(circuit) and failures >= self._config.eject_error_rate * len(circuit.recent):
            self._open(circuit, f"{failures} of the last {len(circuit.recent)} failed (the last: {why})")

    def _full(self, circuit: _Circuit) -> bool:
        return len(circuit.recent) == self._config.eject_samples

    def _open(self, circuit: _Circuit, why: str) -> None:
        seconds = self._config.eject_first_seconds * 2.0**circuit.ejections
        circuit.ejections += 1
        circuit.until = self._clock() + min(seconds, self._config.eject_most_seconds)
        circuit.why = why


def _told(circuit: _Circuit, now: float) -> str:
    """Why it gets nothing; empty if it may be tried."""
    assert circuit.until is not None  # noqa: S101  # asked of open ones only
    if circuit.probes:
        return f"while one request tries it again: {circuit.why}"
    if now < circuit.until:
        return f"for {circuit.until - now:.0f} s more: {circuit.why}"
    return ""
