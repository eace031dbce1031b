"""The gateway's core under observation: each generation has a span, and is counted when it ends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from opentelemetry.trace import SpanKind

from diplex import tracing
from diplex.observation import Observation, observed, operation, request_attributes
from diplex.v1 import generation_pb2 as pb
from gateway.caller import Caller
from gateway.inference import Inference

_parse: Final = pb.GenerateStreamResponse.FromString


class ObservedInference(Inference):
    """Does what its base does; all generations go through :meth:`generate`, and that is what is watched."""

    async def generate(
        self, request: pb.GenerateRequest, caller: Caller, *, whole: bool = False
    ) -> AsyncGenerator[bytes]:
        """See the base."""
        name = f"{operation(request)} {request.model}".rstrip()
        span, within = tracing.start(name, caller.trace, SpanKind.INTERNAL)
        tracing.describe(span, lambda: request_attributes(request))
        last, texts = b"", False
        try:
            with observed(span, caller.account) as observation:
                events = super().generate(request, replace(caller, trace=within), whole=whole)
                async with aclosing(events):
                    async for event in events:
                        texts = texts or _looked_at(event, observation)
                        last = event
                        yield event
                if (end := _parse(last)).HasField("receipt"):
                    observation.finished(end.receipt)
        finally:
            span.end()


def _looked_at(event: bytes, observation: Observation) -> bool:
    """Takes in one of the events up to the first text; whether it is that."""
    told = _parse(event)
    if told.HasField("accepted"):
        observation.model = told.accepted.model
    if not told.HasField("delta"):
        return False
    observation.text()
    return True
