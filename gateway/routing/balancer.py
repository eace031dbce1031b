"""Chooses workers, and learns from what became of the choices. The one part of routing that has a state."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import count

from gateway.fleet.facts import Fleet, Wanted
from gateway.routing import router
from gateway.routing.affinity import Affinity
from gateway.routing.circuit import Circuits, Key
from gateway.routing.config import RoutingConfig
from gateway.routing.load import Ledger
from gateway.routing.router import Candidate, Conditions, Plan


class Balancer:
    """Gives the router what it can't know from workers' reports: counters, circuits, affinity and chance.

    Args:
        config: How it chooses.
        clock: Seconds that only grow.
        draw: Draws from [0, 1).
    """

    def __init__(
        self,
        config: RoutingConfig,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._draw = draw
        self._ledger = Ledger()
        self._circuits = Circuits(config, clock)
        self._affinity = Affinity(config.affinity_entries)
        self._numbers = count(1)

    def plan(self, wanted: Wanted, fleet: Fleet, default_model: str) -> Plan:
        """See :func:`gateway.routing.router.plan`; changes nothing."""
        homes = self._affinity.homes(wanted.prefix) if self._config.affinity and wanted.prefix else ()
        conditions = Conditions(
            loads=self._ledger.loads,
            mean_tokens=self._ledger.mean_tokens,
            ejected=self._circuits.ejected(),
            homes=homes,
            affinity_yield=self._config.affinity_yield,
            random=self._draw,
        )
        return router.plan(wanted, fleet, default_model, conditions)

    def choose(self, plan: Plan) -> tuple[Candidate, ...]:
        """Who can serve by a plan that is carried out, best first; never empty. The first is taken to do it.

        Raises:
            DiplexError: Nobody can.
        """
        if not plan.servable:
            raise router.refusal(plan)
        if self._config.affinity and plan.wanted.prefix:
            self._affinity.remember(plan.wanted.prefix, plan.servable[0].worker.address)
        return plan.servable

    def begin(self, address: str, model: str, tokens: int, ended: Callable[[], None]) -> Passage:
        """A generation goes to a worker.

        Args:
            address: The worker's.
            model: Canonical name.
            tokens: What it comes to, as estimated, prompt included.
            ended: Called once, when it is over.
        """
        return Passage(
            Key(address, model),
            next(self._numbers),
            tokens,
            books=(self._ledger, self._circuits),
            ended=ended,
        )

    def forget(self, address: str) -> None:
        """The worker is gone for good."""
        self._circuits.forget(address)
        self._ledger.forget(address)


class Passage:
    """One generation on one worker, from the choice to the end; keeps the books."""

    def __init__(
        self,
        key: Key,
        number: int,
        tokens: int,
        *,
        books: tuple[Ledger, Circuits],
        ended: Callable[[], None],
    ) -> None:
        self._key = key
        self._number = number
        self._left = tokens
        self._ledger, self._circuits = books
        self._ended: Callable[[], None] | None = ended
        self._served = False
        self._ledger.begin(key.address, tokens)
        self._circuits.begin(key, number)

    def passed(self, tokens: int) -> None:
        """So many generated tokens went by; with the first, the worker has shown that it serves."""
        if not self._served:
            self._served = True
            self._circuits.succeeded(self._key, self._number)
        tokens = min(tokens, self._left)
        self._left -= tokens
        self._ledger.lower(self._key.address, tokens)

    def failed(self, reason: str) -> None:
        """The worker failed it."""
        self._circuits.failed(self._key, self._number, reason)

    def ended(self) -> None:
        """It is over, however. May be called again."""
        if self._ended is None:
            return
        self._ended()
        self._ended = None
        self._ledger.end(self._key.address, self._left)
        self._circuits.ended(self._key, self._number)
