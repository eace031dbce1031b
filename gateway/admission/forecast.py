"""When a request would be answered, from what is under way and what its like took before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.admission.pace import Errors, Lengths, Pace, Taken
from gateway.admission.queueing import NEVER, Place, Times, Waiting, harms, times

_TYPICAL: Final = 0.5
_LONG: Final = 0.9


@dataclass(frozen=True, slots=True)
class Server:
    """A worker of a pool, as it reports itself."""

    address: str
    slots: int
    others: int
    """Sequences that it has from others than this gateway, with and without a slot."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What a request asks for."""

    prompt_tokens: int
    max_tokens: int | None
    choices: int
    priority: int
    deadline: float | None
    """When it has to be done, on the event loop's clock."""
    time_limit: float | None
    """Seconds after which its answer ends with what it has."""


@dataclass(slots=True)
class Stay:
    """A generation that was let in, until it is over."""

    demand: Demand
    arrival: int
    since: float
    tokens: int
    """Of each choice, as expected."""
    predicted: float | None
    """Seconds that it would take altogether, without caution; ``None`` if nothing was known, or it had not to
    wait."""
    address: str
    """Of the worker that has it, or is expected to get it."""
    starts: float = 0.0
    """When it is expected to get its slot."""
    whole: bool = False
    """Its tokens come at the end only, so that how far it is can only be guessed."""
    prompt_tokens: int = 0
    """As its worker counted them; 0 before it was accepted."""
    began: float | None = None
    """When its first token came."""
    done: int = 0
    """Tokens of all choices that came."""

    def progress(self, now: float, pace: Pace, rows: int) -> float | None:
        """Tokens of a choice that are done, about; ``None`` while it has no slot."""
        if not self.whole:
            return None if self.began is None else self.done / self.demand.choices
        if self.prompt_tokens == 0 or now < self.starts:
            return None
        seconds = now - self.starts - pace.prefill(self.demand.prompt_tokens)
        return max(0.0, seconds / max(1e-6, pace.step(rows)))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is foreseen for a request."""

    wait: float
    """Seconds until it gets a slot."""
    service: float
    """Seconds from then on."""
    typical: float
    """The same of a typical answer; ``service`` is of a long one."""
    alone: float
    """Seconds that a typical one would take on an idle worker."""
    harmful: bool
    """Others that were let in would miss their deadlines for it."""
    caution: float
    throughput: float
    """Sequences a second that the pool gets done when it is full."""

    @property
    def total(self) -> float:
        """Seconds until it is answered: with caution, but not where a slot is free that would stay unused."""
        return (self.wait + self.service) * self.caution if self.wait > 0 else self.typical


@dataclass(slots=True)
class Pool:
    """Workers that serve the same requests: one model, backend and precision."""

    lengths: Lengths = field(default_factory=Lengths)
    errors: Errors = field(default_factory=Errors)
    stays: dict[int, Stay] = field(default_factory=dict)  # arrival -> stay
    _paces: dict[str, Pace] = field(default_factory=dict)  # address -> pace

    def tokens(self, demand: Demand, share: float = _LONG) -> int | None:
        """How long each choice's answer comes out, at most, for such a share of requests."""
        return self.lengths.quantile(share, demand.max_tokens)

    def learn(self, stay: Stay, taken: Taken, seconds: float) -> None:
        """Takes in how a generation went."""
        self._paces.setdefault(stay.address, Pace()).learn(taken)
        self.lengths.learn(taken.completion_tokens)
        if stay.predicted is not None:
            self.errors.learn(stay.predicted, seconds)

    def forget(self, addresses: set[str]) -> None:
        """Drops what was measured of workers other than these."""
        self._paces = {address: pace for address, pace in self._paces.items() if address in addresses}

    def own(self, address: str) -> int:
        """Own sequences that a worker has, with and without a slot."""
        return sum(it.demand.choices for it in self.stays.values() if it.address == address)

    def guess_done(self, stay: Stay, now: float) -> int:
        """Tokens that a generation may have done by now, all choices together, as far as one can't see."""
        pace = self._paces.get(stay.address)
        if pace is None or not stay.whole:
            return stay.done
        done = stay.progress(now, pace, max(1, self.own(stay.address))) or 0.0
        return stay.demand.choices * min(stay.tokens, round(done))

    def forecast(
        self, demand: Demand, servers: Sequence[Server], now: float, promised: int = 0
    ) -> Forecast | None:
        """What is foreseen; ``None`` while too little was measured.

        Args:
            demand: The request.
            servers: The workers that could serve it; at least one.
            now: On the event loop's clock.
            promised: Requests like this one that have been told to come now.
        """
        tokens, typical = self.tokens(demand), self.tokens(demand, _TYPICAL)
        known = [self._paces[it.address] for it in servers if it.address in self._paces]
        total_slots = sum(it.slots for it in servers)
        if tokens is None or typical is None or total_slots == 0 or not any(it.known for it in known):
            return None
        pace = max(known, key=lambda it: it.step(1))  # of several kinds the slowest
        rows = math.ceil(total_slots / len(servers))
        load = self._load(servers, now)
        full = load.busy >= total_slots
        beside = rows if full else min(rows, math.ceil((load.busy + demand.choices) / len(servers)))
        service = self._service(demand, pace, tokens, beside)
        own = Waiting(_place(demand, 1 << 62, now), service, demand.choices)
        others = [Waiting(Place(own.place.urgency, own.place.due, -1 - i), service) for i in range(promised)]
        after = times(load.free, [*load.waiting, *others, own])
        return Forecast(
            wait=after[own.place].start,
            service=service,
            typical=self._service(demand, pace, typical, beside),
            alone=self._service(demand, pace, typical, 1),
            harmful=self._harms(load, own.place, after),
            caution=self.errors.caution,
            throughput=total_slots / max(1e-6, self._service(demand, pace, tokens, rows)),
        )

    def _harms(self, load: _Load, own: Place, after: dict[Place, Times]) -> bool:
        if all(it.place < own for it in load.waiting):
            return False  # nobody is behind it
        return harms(times(load.free, load.waiting), after, self.errors.caution)

    def _service(self, demand: Demand, pace: Pace, tokens: int, rows: int) -> float:
        seconds = pace.prefill(demand.prompt_tokens) + tokens * pace.step(rows)
        return seconds if demand.time_limit is None else min(seconds, demand.time_limit)

    def _load(self, servers: Sequence[Server], now: float) -> _Load:
        """What is under way, as far as it is known, and guessed of what others have sent."""
        own = dict.fromkeys((it.address for it in servers), 0)
        for stay in self.stays.values():
            own[stay.address if stay.address in own else servers[0].address] += stay.demand.choices
        speeds = {it.address: self._speed(it, own[it.address]) for it in servers}
        free: list[float] = []
        waiting: list[Waiting] = []
        for stay in self.stays.values():
            speed = speeds.get(stay.address) or speeds[servers[0].address]
            done = stay.progress(now, speed.pace, speed.rows)
            if done is None:
                seconds = speed.seconds(stay.demand, stay.tokens)
                waiting.append(Waiting(_place(stay.demand, stay.arrival, now), seconds, stay.demand.choices))
            else:
                free.extend([max(1.0, stay.tokens - done) * speed.step] * stay.demand.choices)
        total = sum(it.slots for it in servers)
        for server in servers:
            self._add_strangers(server, free, waiting, total)
        busy = len(free)
        if busy < total:
            free.extend([0.0] * (total - busy))
        return _Load(min(busy, total) + len(waiting), sorted(free)[-total:], waiting)

    def _speed(self, server: Server, own: int) -> _Speed:
        pace = self._paces.get(server.address) or next(iter(self._paces.values()))
        rows = max(1, min(server.slots, server.others + own))
        return _Speed(pace, rows, pace.step(rows), pace.step(server.slots))

    def _add_strangers(self, server: Server, free: list[float], waiting: list[Waiting], total: int) -> None:
        """What a worker has from others than this gateway: half done if it has a slot."""
        pace = self._paces.get(server.address)
        length = self.lengths.quantile(_LONG, None)
        if pace is None or length is None:
            return
        seconds = length * pace.step(server.slots)
        for number in range(server.others):
            if len(free) < total:
                free.append(seconds / 2)
            else:
                waiting.append(Waiting(Place(0, -NEVER, -1000 - number), seconds))


@dataclass(frozen=True, slots=True)
class _Speed:
    """How fast one worker is now."""

    pace: Pace
    rows: int
    step: float
    """Seconds a token."""
    full_step: float
    """The same with all slots in use."""

    def seconds(self, demand: Demand, tokens: int) -> float:
        """That a generation will take which has no slot yet."""
        seconds = self.pace.prefill(demand.prompt_tokens) + tokens * self.full_step
        return seconds if demand.time_limit is None else min(seconds, demand.time_limit)


@dataclass(frozen=True, slots=True)
class _Load:
    busy: int
    free: list[float]
    waiting: list[Waiting]


def _place(demand: Demand, arrival: int, now: float) -> Place:
    due = NEVER if demand.deadline is None else demand.deadline - now
    return Place(-demand.priority, due, arrival)
