"""One RPC from begin to end, as operators see it: a span, a count, a line in the log. Never a prompt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import grpc
import structlog
from opentelemetry.trace import Span

from diplex import tracing
from diplex.metrics import IN_FLIGHT, REQUESTS

_LOG: Final = structlog.get_logger()

_CLIENTS_DOING: Final = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Codes that are no fault of the server (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/)."""

Fact = str | int | float


@dataclass(slots=True)
class Account:
    """What is known of an RPC so far."""

    code: grpc.StatusCode | None = None
    """How it ended; ``None`` while it runs, or if its caller has gone."""
    reason: str = ""
    """Of its error."""
    facts: dict[str, Fact] = field(default_factory=dict)
    """What the line in the log says beside: model, worker, tokens, times."""

    def note(self, **facts: Fact) -> None:
        """Adds to the facts: numbers add up, since one RPC may hold many generations, and names replace."""
        for name, fact in facts.items():
            known = self.facts.get(name, 0)
            self.facts[name] = fact if isinstance(fact, str) or isinstance(known, str) else known + fact


@contextmanager
def accounted(
    method: str,
    request_id: str,
    metadata: Iterable[tuple[str, str | bytes]] | None,
    attributes: tracing.Attributes | None = None,
) -> Iterator[Account]:
    """Keeps a call's account while it is served.

    Args:
        method: Full name of the RPC, or of what isn't one.
        request_id: Names it in the log.
        metadata: The call's.
        attributes: Of the span of what isn't an RPC.
    """
    account, began = Account(), time.perf_counter()
    in_flight = IN_FLIGHT.labels(method)
    in_flight.inc()
    with tracing.serving(method, metadata, attributes) as span:
        try:
            yield account
        finally:
            in_flight.dec()
            _close(account, method, request_id, time.perf_counter() - began, span)


def _close(account: Account, method: str, request_id: str, seconds: float, span: Span) -> None:
    code = account.code or grpc.StatusCode.CANCELLED
    REQUESTS.labels(method, code.name, account.facts.get("model", "")).inc()
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    span.set_attribute("diplex.request_id", request_id)
    if code not in _CLIENTS_DOING:
        tracing.fail(span, account.reason or code.name)
    told = dict(account.facts)
    if account.reason:
        told["reason"] = account.reason
    line = _LOG.bind(rpc=method, request_id=request_id, code=code.name, ms=round(1000 * seconds, 2), **told)
    # Behind the answer, which the loop has not sent yet.
    asyncio.get_running_loop().call_soon(line.info, "access")
