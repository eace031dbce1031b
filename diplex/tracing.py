"""Traces over every hop: OpenTelemetry spans, joined by W3C trace context in gRPC metadata.

Without :func:`configure_tracing` nothing is recorded, and a caller's trace is passed on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from diplex.version import installed_version

Metadata = tuple[tuple[str, str], ...]
Attributes = Mapping[str, str | int | float | bool | tuple[str, ...]]

_STANDARD: Final = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_TRACES_EXPORTER",
)
_KEYS: Final = frozenset({"traceparent", "tracestate"})
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_TRACER: Final = trace.get_tracer("diplex", installed_version())


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Traces, sent by OTLP over gRPC; off unless there is an endpoint here or in the standard variables."""

    endpoint: str = ""
    """Where spans are sent, as ``http://127.0.0.1:4317``. Empty: what ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` and ``OTEL_TRACES_EXPORTER`` say; without them, nowhere."""
    sampled: float = 1.0
    """Share of the traces that begin here which are recorded, 0 to 1; one that a caller began is recorded if
    the caller does. ``OTEL_TRACES_SAMPLER`` wins."""

    def __post_init__(self) -> None:
        if not 0 <= self.sampled <= 1:
            raise ValueError(f"sampled is a share from 0 to 1, not {self.sampled}")

    @property
    def wanted(self) -> bool:
        """Whether spans are to be recorded."""
        off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
        if off or (exporter == "none" and not self.endpoint):
            return False
        return bool(self.endpoint) or any(os.environ.get(name) for name in _STANDARD)


def configure_tracing(service: str, config: TracingConfig) -> Callable[[], None]:
    """Begins to record and send spans, if that is wanted.

    Args:
        service: Name of the process in every span, as ``diplex-gateway``; ``OTEL_SERVICE_NAME`` wins.
        config: Whether, and where to.

    Returns:
        Sends what is left and ends the recording; takes seconds if nobody listens.
    """
    if not config.wanted:
        return lambda: None
    # They cost every start a fifth of a second, and most run without.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio  # noqa: PLC0415

    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(
        resource=Resource.create({**named, "service.version": installed_version()}),
        sampler=None if os.environ.get("OTEL_TRACES_SAMPLER") else ParentBasedTraceIdRatio(config.sampled),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=config.endpoint) if config.endpoint else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return provider.shutdown


def context_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """The trace that a call's metadata says it belongs to."""
    carrier = {key: value for key, value in metadata or () if key in _KEYS and isinstance(value, str)}
    return _PROPAGATOR.extract(carrier, Context()) if carrier else Context()


def joined(metadata: Metadata, context: Context) -> Metadata:
    """A call's metadata, for a call that belongs to a context."""
    return (*(entry for entry in metadata if entry[0] not in _KEYS), *carried(context))


def carried(context: Context) -> Metadata:
    """The metadata that says so to the next hop; empty outside a trace."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())


@contextmanager
def serving(
    method: str, metadata: Iterable[tuple[str, str | bytes]] | None, attributes: Attributes | None = None
) -> Iterator[Span]:
    """The span of a call that this process serves, current while it is open.

    Args:
        method: Full name of an RPC, as ``diplex.v1.GenerationService.Generate``, or of what isn't one.
        metadata: The call's.
        attributes: Of the span of what isn't an RPC.
    """
    if attributes is None:
        service, _, name = method.rpartition(".")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        method = f"{service}/{name}"
    span = _TRACER.start_span(method, context_of(metadata), SpanKind.SERVER, attributes)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        yield span


def start(name: str, context: Context, kind: SpanKind) -> tuple[Span, Context]:
    """Begins a span within a context; returns it, and the context within it."""
    span = _TRACER.start_span(name, context, kind)
    return span, trace.set_span_in_context(span, context)


def describe(span: Span, attributes: Callable[[], Attributes]) -> None:
    """Gives a span attributes, which aren't even made where nobody records it."""
    if span.is_recording():
        span.set_attributes(attributes())


def fail(span: Span, reason: str) -> None:
    """Says of a span that it failed, and why."""
    span.set_status(Status(StatusCode.ERROR, reason))
    span.set_attribute("error.type", reason)


def wall_clock(seconds: float) -> int:
    """Nanoseconds since 1970 of a moment on the monotonic clock, which all processes of a machine share."""
    return time.time_ns() - time.monotonic_ns() + int(seconds * 1e9)


def add(name: str, start_time: int, seconds: float, attributes: Attributes) -> int:
    """Adds a span that is over to the current one.

    Args:
        name: Of the span.
        start_time: When it began, in nanoseconds since 1970.
        seconds: How long it took.
        attributes: Of the span.

    Returns:
        When it ended, likewise.
    """
    end_time = start_time + int(seconds * 1e9)
    _TRACER.start_span(name, attributes=attributes, start_time=start_time).end(end_time)
    return end_time


def current_ids() -> dict[str, str]:
    """The current trace and span, as logs name them; empty outside a trace."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
