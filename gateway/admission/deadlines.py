"""Whether a request's deadline can be met, and when to come back if it can't."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from diplex.errors import DeadlineExceeded, DeadlineUnreachable
from diplex.v1 import generation_pb2 as pb
from gateway.admission.config import AdmissionConfig
from gateway.admission.forecast import Demand, Forecast, Pool, Server
from gateway.admission.ledger import Ledger
from gateway.caller import Caller

_SOONEST: Final = 0.05
"""Seconds; nobody is told to come back sooner."""
_HEADROOM: Final = 1.1
"""Where some have been promised a time, others leave a tenth of theirs: the queue may move more slowly."""
_WEIGHT: Final = 0.05
"""Of one appointment in the share of those that are kept."""
_OF_THE_CALL: Final[tuple[Literal["idempotency_key", "resumable", "resume"], ...]] = (
    "idempotency_key",
    "resumable",
    "resume",
)
"""Fields that say nothing of what is asked for."""


@dataclass(frozen=True)
class Question:
    """A request that wants to be let in, and what it has to do with."""

    request: pb.GenerateRequest
    caller: Caller
    demand: Demand
    pool: Pool
    servers: Sequence[Server]
    key: str
    """Names the pool among all gateway processes."""

    @cached_property
    def name(self) -> bytes:
        """What tells whether a request is sent again: its content, and who sends it."""
        name = hashlib.blake2b(self.caller.client.encode(), digest_size=16)
        request = pb.GenerateRequest()
        request.CopyFrom(self.request)
        for field in _OF_THE_CALL:
            request.ClearField(field)
        name.update(request.SerializeToString(deterministic=True))
        return name.digest()

    def forecast(self, promised: int = 0) -> Forecast | None:
        """What is foreseen for it now."""
        now = asyncio.get_running_loop().time()
        return self.pool.forecast(self.demand, self.servers, now, promised)


class Deadlines:
    """Refuses what would be answered too late.

    Args:
        config: How requests are let in.
        ledger: Where promises are kept.
    """

    def __init__(self, config: AdmissionConfig, ledger: Ledger) -> None:
        self._config = config
        self._ledger = ledger
        self._shown = 1.0  # share of those with an appointment who come

    def foresee(self, question: Question) -> Forecast | None:
        """What is foreseen for a request that may come in; ``None`` if nothing can be.

        Raises:
            DeadlineUnreachable: It would be answered too late; when to come back is told.
            DeadlineExceeded: It would be even on an idle worker.
        """
        forecast, demand = question.forecast(), question.demand
        left = question.caller.remaining()
        if forecast is None or (left is None and demand.time_limit is None):
            return forecast
        if left is not None and forecast.alone > left:
            raise DeadlineExceeded(
                f"the deadline leaves {left:.2f} s, and such a request takes {forecast.alone:.2f} s on an "
                "idle worker; allow more time, or ask for fewer tokens"
            )
        late = self._late(question, forecast, left)
        if late is not None:
            raise self._refusal(question, forecast, late)
        return forecast

    def _late(self, question: Question, forecast: Forecast, left: float | None) -> float | None:
        """By how many seconds a request would be late; ``None`` if it may come in."""
        demand = question.demand
        late = _late(forecast, left, demand)
        if left is None or forecast.wait == 0:
            return late
        for _ in range(self._ledger.lapse(question.key, self._config.grace_seconds)):
            self._shown -= _WEIGHT * self._shown
        promised = self._ledger.awaited(question.key, max(0.0, left - forecast.service))
        if not promised:
            return late
        if self._ledger.redeem(question.name, question.key):
            self._shown += _WEIGHT * (1 - self._shown)
            # A promise is kept if it can be, without the caution that newcomers are met with.
            return _late(replace(forecast, harmful=False, caution=1.0), left, demand)
        behind = question.forecast(round(promised * self._shown)) or forecast
        return _late(replace(behind, harmful=False, caution=behind.caution * _HEADROOM), left, demand)

    def _refusal(self, question: Question, forecast: Forecast, late: float) -> DeadlineUnreachable:
        again = max(_SOONEST, late)
        if (share := self._config.appointments) > 0:
            spacing = question.demand.choices / (share * forecast.throughput)
            latest = self._config.appointment_seconds
            again = self._ledger.appoint(question.name, question.key, again, spacing, latest)
        return DeadlineUnreachable(
            f"after {forecast.wait:.2f} s in the queue the answer would be there in {forecast.total:.2f} s, "
            f"later than the deadline; send the same request again in {again:.2f} s",
            metadata={
                "predicted_ms": f"{forecast.total * 1000:.0f}",
                "predicted_wait_ms": f"{forecast.wait * 1000:.0f}",
            },
            retry_after=again,
        )


def _late(forecast: Forecast, left: float | None, demand: Demand) -> float | None:
    """By how many seconds a request would be late; ``None`` if it wouldn't be, and harms nobody."""
    limit = demand.time_limit
    if limit is not None and forecast.wait * forecast.caution >= limit:
        return forecast.wait * forecast.caution - limit
    if left is None:
        return None
    total = forecast.total if limit is None else min(forecast.total, limit)
    if total > left:
        return total - left
    return _SOONEST if forecast.harmful else None
