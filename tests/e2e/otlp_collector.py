"""A collector of spans behind a real socket, as an operator would run one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Collected:
    """One span as it arrived."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: dict[str, object]
    failed: bool


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    def __init__(self):
        self.spans: list[Collected] = []
        self._arrived = threading.Condition()

    def Export(self, request, context):  # noqa: N802  # the RPC's name
        with self._arrived:
            for group in request.resource_spans:
                service = attributes_of(group.resource)["service.name"]
                self.spans += [collected(service, it) for scope in group.scope_spans for it in scope.spans]
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def trace(self, trace: str, count: int, seconds: float = 20) -> list[Collected]:
        """The spans of a trace, once so many are there."""

        def found():
            return [span for span in self.spans if span.trace == trace]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(found()) >= count, seconds), found()
            return found()


def attributes_of(holder) -> dict[str, object]:
    return {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in holder.attributes}


def collected(service, span) -> Collected:
    return Collected(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        attributes_of(span),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
    )


@contextmanager
def collector() -> Iterator[tuple[Collector, str]]:
    """A collector, and its endpoint."""
    server = grpc.server(ThreadPoolExecutor(2))
    keeper = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(keeper, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield keeper, f"http://127.0.0.1:{port}"
    server.stop(None).wait()
