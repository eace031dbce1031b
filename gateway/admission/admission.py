"""Lets generations in, or refuses them at once: quotas, and deadlines that could not be met."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway import prompt
from gateway.admission.config import AdmissionConfig
from gateway.admission.deadlines import Deadlines, Question
from gateway.admission.forecast import Demand, Forecast, Pool, Server, Stay
from gateway.admission.ledger import Ledger
from gateway.admission.pace import Taken
from gateway.admission.quotas import Charge, Quotas
from gateway.caller import Caller
from gateway.routing.router import Candidate

_UNKNOWN_TOKENS: Final = 256
"""Charged beforehand for an answer of whose length nothing is known."""


class Admission:
    """Knows what is under way, and what it took before.

    Args:
        config: How requests are let in.

    Raises:
        OSError: The file for what is counted can't be used.
    """

    def __init__(self, config: AdmissionConfig) -> None:
        self._config = config
        self._ledger = Ledger(config.state_file)
        self._quotas = Quotas(self._ledger)
        self._pools: dict[str, Pool] = {}  # model, backend and precision -> pool
        self._deadlines = Deadlines(config, self._ledger)
        self._arrivals = itertools.count()

    def close(self) -> None:
        """Lets go of what is counted."""
        self._ledger.close()

    @contextmanager
    def admitted(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        candidates: Sequence[Candidate],
        *,
        whole: bool,
        begun: bool,
    ) -> Iterator[Visit]:
        """A generation's stay; charged when it is let in, and settled when it is over.

        Args:
            request: A checked one.
            caller: On whose behalf.
            candidates: Who can serve it, best first; at least one.
            whole: Its tokens come at the end only.
            begun: The client has a part of it already, so that it is let in whatever its deadline.

        Raises:
            RateLimited: The caller's rate stands against it.
            QuotaExceeded: The caller's quota does.
            DeadlineUnreachable: It would be answered too late; when to come back is told.
            DeadlineExceeded: It would be even on an idle worker.
        """
        question = self._question(request, caller, candidates)
        demand, pool = question.demand, question.pool
        now = asyncio.get_running_loop().time()
        forecast = self._forecast(question, begun=begun)
        tokens = pool.tokens(demand) or _UNKNOWN_TOKENS
        charge = self._quotas.begin(caller.principal, demand.prompt_tokens + tokens * demand.choices)
        stay = Stay(
            demand,
            next(self._arrivals),
            now,
            tokens,
            forecast.wait + forecast.service if forecast and forecast.wait > 0 else None,
            question.servers[0].address,
            starts=now + (0.0 if forecast is None else forecast.wait),
            whole=whole,
        )
        pool.stays[stay.arrival] = stay
        visit = Visit(pool, stay, {it.worker.name: it.worker.address for it in candidates})
        try:
            yield visit
        finally:
            del pool.stays[stay.arrival]
            self._settle(charge, visit)

    def _settle(self, charge: Charge | None, visit: Visit) -> None:
        now = asyncio.get_running_loop().time()
        visit.ended(now)
        if charge is not None:
            self._quotas.end(charge, visit.used(now))

    def _forecast(self, question: Question, *, begun: bool) -> Forecast | None:
        """What is foreseen, where that decides something or is not simply that it begins at once."""
        demand = question.demand
        if self._config.predict and not begun and (demand.deadline or demand.time_limit) is not None:
            return self._deadlines.foresee(question)
        free = sum(it.slots - it.others for it in question.servers)
        return question.forecast() if free < len(question.pool.stays) + demand.choices else None

    def _question(
        self, request: pb.GenerateRequest, caller: Caller, candidates: Sequence[Candidate]
    ) -> Question:
        """The request, and as its pool those candidates that serve like the first."""
        first = candidates[0].deployment
        alike = [
            it
            for it in candidates
            if (it.deployment.backend, it.deployment.precision) == (first.backend, first.precision)
        ]
        servers = [Server(it.worker.address, it.deployment.slots, it.deployment.others) for it in alike]
        key = f"{first.model}/{first.backend}/{first.precision}"
        pool = self._pools.setdefault(key, Pool())
        return Question(request, caller, _demand(request, caller), pool, servers, key)


class Visit:
    """A generation that was let in; is told what its worker sends."""

    def __init__(self, pool: Pool, stay: Stay, addresses: dict[str, str]) -> None:
        self._pool = pool
        self._stay = stay
        self._addresses = addresses
        self._rows = 0.0
        self._receipt: pb.Receipt | None = None

    def saw(self, response: worker_pb2.GenerateResponse) -> None:
        """The worker's next event."""
        stay = self._stay
        if response.token_ids:
            stay.done += len(response.token_ids)
            stay.began = stay.began or asyncio.get_running_loop().time()
        if response.kind == worker_pb2.EVENT_KIND_ACCEPTED:
            accepted = pb.GenerateStreamResponse.FromString(response.event).accepted
            stay.address = self._addresses.get(accepted.worker, stay.address)
            stay.prompt_tokens = accepted.prompt_tokens
            self._rows = self._pool.own(stay.address)
        elif response.kind == worker_pb2.EVENT_KIND_RECEIPT:
            self._receipt = pb.GenerateStreamResponse.FromString(response.event).receipt
            self._learn(self._receipt)

    def ended(self, now: float) -> None:
        """It is over; if without an answer, it would have taken longer than it did."""
        predicted = self._stay.predicted
        if self._receipt is None and predicted is not None and now - self._stay.since > predicted:
            self._pool.errors.learn(predicted, now - self._stay.since)

    def used(self, now: float) -> int:
        """Tokens that it has used so far: by its receipt, else by what came, else by how long it has run."""
        if self._receipt is not None:
            return self._receipt.usage.prompt_tokens + self._receipt.usage.completion_tokens
        guessed = self._pool.guess_done(self._stay, now)
        return self._stay.prompt_tokens + max(self._stay.done, guessed)

    def _learn(self, receipt: pb.Receipt) -> None:
        if receipt.attempts > 1:
            return  # a generation that went on elsewhere took what no single worker takes
        usage, timings, stay = receipt.usage, receipt.timings, self._stay
        taken = Taken(
            usage.prompt_tokens - usage.cached_prompt_tokens,
            usage.completion_tokens // stay.demand.choices,
            timings.prefill_ms / 1000,
            timings.decode_ms / 1000,
            (self._rows + self._pool.own(stay.address)) / 2,
        )
        self._pool.learn(stay, taken, asyncio.get_running_loop().time() - stay.since)


def _demand(request: pb.GenerateRequest, caller: Caller) -> Demand:
    stopping = request.stopping
    limited = request.HasField("time_limit")
    return Demand(
        prompt.prompt_tokens_of(request),
        stopping.max_tokens if stopping.HasField("max_tokens") else None,
        request.output.n or 1,
        request.priority or pb.PRIORITY_NORMAL,
        caller.deadline,
        request.time_limit.ToNanoseconds() / 1e9 if limited else None,
    )
