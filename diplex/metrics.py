"""What every process counts, for Prometheus, by OpenTelemetry's names for generative AI where it has any.

Nothing is counted a token: a request is, when it has ended, from what its receipt says.
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from diplex.v1 import generation_pb2 as pb

_LOG: Final = structlog.get_logger()

_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)
_EACH_TOKEN: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)

REQUESTS: Final = Counter(
    "diplex_requests", "RPCs that have ended, by model where one served them.", ("rpc", "code", "model")
)
IN_FLIGHT: Final = Gauge(
    "diplex_requests_in_flight", "RPCs under way.", ("rpc",), multiprocess_mode="livesum"
)

_MODEL: Final = ("gen_ai_request_model",)

DURATION: Final = Histogram(
    "gen_ai_server_request_duration_seconds",
    "Generations, from the request to the last event.",
    (*_MODEL, "error_type"),
    buckets=_SECONDS,
)
FIRST_TOKEN: Final = Histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "From the request to the first piece of text.",
    _MODEL,
    buckets=_FIRST_TOKEN,
)
EACH_TOKEN: Final = Histogram(
    "gen_ai_server_time_per_output_token_seconds",
    "Between two tokens behind the first, a generation's mean.",
    _MODEL,
    buckets=_EACH_TOKEN,
)
TOKENS: Final = Histogram(
    "gen_ai_client_token_usage",
    "Tokens of prompts (input) and of answers (output), a generation.",
    (*_MODEL, "gen_ai_token_type"),
    buckets=_TOKENS,
)
QUEUE: Final = Histogram(
    "diplex_queue_seconds",
    "How long generations waited for an engine's first step.",
    _MODEL,
    buckets=_SECONDS,
)
PREFILL: Final = Histogram(
    "diplex_prefill_seconds", "From an engine's first step to the first token.", _MODEL, buckets=_SECONDS
)
CACHED: Final = Counter(
    "diplex_prompt_tokens_cached", "Tokens of prompts whose keys and values were still held.", _MODEL
)
SPECULATED: Final = Counter(
    "diplex_output_tokens_speculated", "Tokens of answers that speculation had guessed.", _MODEL
)


def take(receipt: pb.Receipt) -> None:
    """Counts a generation that has ended well."""
    model, usage, timings = receipt.model, receipt.usage, receipt.timings
    TOKENS.labels(model, "input").observe(usage.prompt_tokens)
    TOKENS.labels(model, "output").observe(usage.completion_tokens)
    QUEUE.labels(model).observe(timings.queue_ms / 1000)
    PREFILL.labels(model).observe(timings.prefill_ms / 1000)
    if usage.completion_tokens > 1:
        EACH_TOKEN.labels(model).observe(timings.decode_ms / 1000 / (usage.completion_tokens - 1))
    CACHED.labels(model).inc(usage.cached_prompt_tokens)
    SPECULATED.labels(model).inc(usage.speculated_tokens)


@contextmanager
def metrics_server(listen: str, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Serves ``/metrics`` over HTTP while it is open, in a thread.

    Args:
        listen: ``host:port``; port 0 for any free one. Empty: serves nothing.
        registry: What is served.

    Raises:
        OSError: The address can't be bound.
    """
    if not listen:
        yield
        return
    host, _, port = listen.rpartition(":")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except (OSError, ValueError, OverflowError) as error:
        raise OSError(f"can't serve metrics on {listen}: {error}") from error
    _LOG.info("metrics", address=f"{host}:{server.server_port}")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
