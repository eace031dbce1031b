"""What the gateway has under way on its workers; their own reports come later than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.fleet.facts import Deployment, Worker

_SMOOTHING: Final = 0.05
"""Share of a new request in the running mean of their sizes."""
_FIRST_MEAN_TOKENS: Final = 256.0


@dataclass(slots=True)
class Load:
    """What a gateway has under way on one worker. Only the ledger changes it."""

    requests: int = 0
    tokens: int = 0
    """Of these requests: prompts and what is still to be generated, as estimated."""
    turn: int = 0
    """When it was given a request last, counted in the gateway's requests; 0 for never."""


NONE: Final = Load()


@dataclass(frozen=True, slots=True)
class Standing:
    """How one worker stands beside others that could serve the same request."""

    address: str
    weight: float
    """Tokens under way a slot."""
    free: bool
    """A request would begin at once."""
    turn: int
    """When it was given a request last."""


class Ledger:
    """Counts requests and tokens a worker."""

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}  # address -> load
        self._gone: set[str] = set()  # addresses whose last requests are awaited
        self._turn = 0
        self.mean_tokens = _FIRST_MEAN_TOKENS
        """About what a request comes to."""

    @property
    def loads(self) -> Mapping[str, Load]:
        """What is under way now, by address."""
        return self._loads

    def begin(self, address: str, tokens: int) -> None:
        """A request of so many tokens goes to a worker."""
        self._turn += 1
        self.mean_tokens += _SMOOTHING * (tokens - self.mean_tokens)
        self._gone.discard(address)
        load = self._loads.get(address)
        if load is None:
            load = self._loads[address] = Load()
        load.requests += 1
        load.tokens += tokens
        load.turn = self._turn

    def lower(self, address: str, tokens: int) -> None:
        """So many tokens of a worker's requests are done."""
        self._loads[address].tokens -= tokens

    def end(self, address: str, tokens: int) -> None:
        """A request is over, with so many of its tokens left."""
        load = self._loads[address]
        load.requests -= 1
        load.tokens -= tokens
        if load.requests == 0 and address in self._gone:
            self.forget(address)

    def forget(self, address: str) -> None:
        """The worker is gone for good; what it still has under way may end."""
        if self._loads.get(address, NONE).requests:
            self._gone.add(address)
        else:
            self._loads.pop(address, None)
            self._gone.discard(address)


def standing(worker: Worker, deployment: Deployment, load: Load, mean_tokens: float) -> Standing:
    """Weighs what a worker reports and what the gateway itself has under way there.

    What others have sent there, which the worker reports, is of a mean size each.
    """
    others = sum(it.others for it in worker.deployments)
    slots = deployment.slots
    return Standing(
        worker.address,
        weight=(load.tokens + others * mean_tokens) / max(1, slots),
        free=slots == 0 or load.requests + others < slots,
        turn=load.turn,
    )
