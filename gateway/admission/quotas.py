"""Callers' quotas: what a generation takes of them, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from diplex.errors import QuotaExceeded, QuotaViolation, RateLimited
from gateway.admission.ledger import Draw, Ledger, Refused
from gateway.security.principal import Principal, Quota

_SHORT_SECONDS: Final = 60.0
"""A limit over so many seconds is a rate, over more it is a quota."""
_PAUSE_SECONDS: Final = 1.0
"""When to come back if nobody knows when there will be room."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What a generation has taken."""

    subject: str
    number: int
    quota: Quota
    tokens: int
    """As estimated beforehand."""


class Quotas:
    """Charges callers.

    Args:
        ledger: Where it is counted.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def begin(self, principal: Principal, tokens: int) -> Charge | None:
        """Charges a generation that is about to begin; ``None`` for callers without limits.

        Args:
            principal: Who calls.
            tokens: What it comes to, as estimated.

        Raises:
            RateLimited: The caller has used up the minute, or has too much under way.
            QuotaExceeded: It has used up the hour or the day.
        """
        quota = principal.rights.quota
        if not quota:
            return None
        draws = [Draw("requests", rate, 1) for rate in quota.requests] + _of_tokens(quota, tokens)
        begun = self._ledger.begin(principal.subject, draws, quota.concurrent)
        if isinstance(begun, list):
            raise _refusal(principal, quota, begun)
        return Charge(principal.subject, begun, quota, tokens)

    def end(self, charge: Charge | None, used: int) -> None:
        """The generation is over and has used so many tokens."""
        if charge is not None:
            returned = _of_tokens(charge.quota, charge.tokens - used)
            self._ledger.end(charge.number, charge.subject, returned)


def _of_tokens(quota: Quota, tokens: int) -> list[Draw]:
    return [Draw("tokens", rate, tokens) for rate in quota.tokens]


def _refusal(principal: Principal, quota: Quota, refused: Sequence[Refused]) -> RateLimited | QuotaExceeded:
    exceeded = [QuotaViolation(principal.subject, _described(it, quota)) for it in refused]
    wait = max(_PAUSE_SECONDS if it.wait is None else it.wait for it in refused)
    long = any(it.rate is not None and it.rate.seconds > _SHORT_SECONDS for it in refused)
    kind = QuotaExceeded if long else RateLimited
    told = ", ".join(it.description for it in exceeded)
    return kind(
        f"{principal.name} may use {told}; try again in {wait:.1f} s", exceeded=exceeded, retry_after=wait
    )


def _described(refused: Refused, quota: Quota) -> str:
    if refused.rate is None:
        return f"{quota.concurrent} generations at the same time"
    amount, _, period = str(refused.rate).partition(" ")
    return f"{amount} {refused.what} {period}"
