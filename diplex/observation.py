"""One generation as operators see it: what its span says, what is counted, what the log tells. No texts.

Attributes after https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry.trace import Span

from diplex import metrics, tracing
from diplex.access import Account
from diplex.errors import DiplexError, InternalError
from diplex.v1 import generation_pb2 as pb

PROVIDER: Final = "diplex"


class Observation:
    """Takes down how a generation fares, from its being asked for to its end.

    Args:
        span: Told what it is; ended by its owner.
        account: Of the RPC that it is part of.
    """

    def __init__(self, span: Span, account: Account) -> None:
        self._span = span
        self._account = account
        self._began = time.perf_counter()
        self._first: float | None = None  # seconds from the begin to the first text
        self._receipt: pb.Receipt | None = None
        self.model = ""
        """What serves it; empty until that is known, so that no caller can make names up for the metrics."""

    def text(self) -> None:
        """A piece of text goes to the caller; only the first one counts."""
        if self._first is None:
            self._first = time.perf_counter() - self._began
            self._span.add_event("first text")

    def finished(self, receipt: pb.Receipt) -> None:
        """It has ended well."""
        self._receipt = receipt
        self.model = receipt.model

    def close(self, error: BaseException | None = None) -> None:
        """It is over, for that reason if it has not ended well."""
        seconds = time.perf_counter() - self._began
        reason = "" if error is None else reason_of(error)
        if reason:
            tracing.fail(self._span, reason)
        metrics.DURATION.labels(self.model, reason).observe(seconds)
        if self._first is not None:
            metrics.FIRST_TOKEN.labels(self.model).observe(self._first)
        self._account.note(model=self.model, generations=1)
        if (receipt := self._receipt) is not None:
            metrics.take(receipt)
            tracing.describe(self._span, lambda: receipt_attributes(receipt))
            self._account.note(**_facts(receipt, self._first))


@contextmanager
def observed(span: Span, account: Account) -> Iterator[Observation]:
    """Observes a generation while it is open; what is raised through it is why the generation failed."""
    observation = Observation(span, account)
    try:
        yield observation
    except BaseException as error:
        observation.close(error)
        raise
    else:
        observation.close()


def reason_of(error: BaseException) -> str:
    """The reason of whatever ended a generation."""
    if isinstance(error, DiplexError):
        return error.reason
    return "CANCELLED" if isinstance(error, GeneratorExit | asyncio.CancelledError) else InternalError.reason


def request_attributes(request: pb.GenerateRequest) -> dict[str, str | int | float]:
    """What a span says of a request."""
    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": operation(request),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": request.model,
        "gen_ai.request.choice.count": request.output.n or 1,
    }
    sampling, stopping = request.sampling, request.stopping
    for name in ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty"):
        if name in sampling.DESCRIPTOR.fields_by_name and sampling.HasField(name):
            attributes[f"gen_ai.request.{name}"] = getattr(sampling, name)
    if stopping.HasField("max_tokens"):
        attributes["gen_ai.request.max_tokens"] = stopping.max_tokens
    return attributes


def operation(request: pb.GenerateRequest) -> str:
    """What the conventions call it."""
    return "chat" if request.HasField("chat") else "text_completion"


def receipt_attributes(receipt: pb.Receipt) -> dict[str, str | int | float]:
    """What a span says of a generation that ended well."""
    return {
        "gen_ai.response.id": receipt.request_id,
        "gen_ai.response.model": receipt.model,
        "gen_ai.usage.input_tokens": receipt.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": receipt.usage.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": receipt.usage.cached_prompt_tokens,
        "diplex.worker": receipt.worker,
        "diplex.precision": pb.Precision.Name(receipt.precision),
        "diplex.attempts": receipt.attempts,
        "diplex.speculated_tokens": receipt.usage.speculated_tokens,
    }


def _facts(receipt: pb.Receipt, first: float | None) -> dict[str, str | int | float]:
    usage, timings = receipt.usage, receipt.timings
    return {
        "worker": receipt.worker,
        "precision": pb.Precision.Name(receipt.precision).removeprefix("PRECISION_").lower(),
        "attempts": receipt.attempts,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "first_ms": round(1000 * (first or 0.0), 2),
        "queue_ms": round(timings.queue_ms, 2),
        "prefill_ms": round(timings.prefill_ms, 2),
        "decode_ms": round(timings.decode_ms, 2),
    }
