"""What callers are told of their limits."""

from __future__ import annotations

import pytest

from diplex.errors import QuotaExceeded, RateLimited
from gateway.admission.ledger import Ledger
from gateway.admission.quotas import Quotas
from gateway.security.principal import ANYBODY, Principal, Quota, Rate, Rights


def caller(**quota):
    return Principal("ann", "key", Rights(quota=Quota(**quota)))


@pytest.fixture
def quotas():
    return Quotas(Ledger(clock=lambda: 1000.0))


def test_who_has_no_limits_is_not_counted(quotas):
    assert quotas.begin(ANYBODY, 10**9) is None
    quotas.end(None, 5)


def test_a_rate_is_told_with_its_delay(quotas):
    ann = caller(requests=(Rate(2, 60.0),))
    quotas.begin(ann, 1)
    quotas.begin(ann, 1)
    with pytest.raises(RateLimited, match="2 requests a minute") as raised:
        quotas.begin(ann, 1)
    assert raised.value.retry_after == pytest.approx(30.0)
    [violation] = raised.value.exceeded
    assert (violation.subject, violation.description) == ("key:ann", "2 requests a minute")


def test_a_days_tokens_are_a_quota(quotas):
    ann = caller(tokens=(Rate(1000, 60.0), Rate(1000, 86400.0)))
    charge = quotas.begin(ann, 300)
    quotas.end(charge, 1000)
    with pytest.raises(QuotaExceeded) as raised:
        quotas.begin(ann, 100)
    assert [it.description for it in raised.value.exceeded] == ["1000 tokens a minute", "1000 tokens a day"]
    assert raised.value.retry_after == pytest.approx(8640.0)


def test_generations_at_the_same_time(quotas):
    ann = caller(concurrent=1)
    charge = quotas.begin(ann, 1)
    with pytest.raises(RateLimited, match="1 generations at the same time"):
        quotas.begin(ann, 1)
    quotas.end(charge, 1)
    quotas.begin(ann, 1)
