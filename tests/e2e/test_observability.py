"""What operators see of requests through real processes: traces, metrics, and lines in logs."""

from __future__ import annotations

import json
import urllib.request

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id
from prometheus_client.parser import text_string_to_metric_families

from diplex import errors
from tests.e2e import services
from tests.e2e.otlp_collector import collector

PROMPT = "zanzibar"


@pytest.fixture(scope="module")
def spans():
    with collector() as (keeper, endpoint):
        yield keeper, endpoint


@pytest.fixture(scope="module")
def observed(spans, tiny_home, tiny_catalogue, tmp_path_factory):
    env = services.environment(
        DIPLEX_HOME=str(tiny_home),
        DIPLEX_MODELS=str(tiny_catalogue),
        DIPLEX_METRICS_LISTEN="127.0.0.1:0",
        DIPLEX_WORKER_METRICS_LISTEN="127.0.0.1:0",
        OTEL_EXPORTER_OTLP_ENDPOINT=spans[1],
        OTEL_BSP_SCHEDULE_DELAY="50",
    )
    with services.stack(
        tmp_path_factory.mktemp("observed"), "--model", "tiny-llama", "--threads", "1", env=env
    ) as both:
        yield both


@pytest.fixture(scope="module")
def traced(observed, spans):
    """One streamed request inside a span of the client's own; its trace, by span name."""
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("client") as root, observed.client() as client:
        with client.stream(PROMPT, max_tokens=9, temperature=0, request_id="traced") as stream:
            stream.collect()
        receipt = stream.receipt
    context = root.get_span_context()
    found = spans[0].trace(format_trace_id(context.trace_id), 7)
    return {span.name: span for span in found}, format_span_id(context.span_id), receipt


def test_a_trace_shows_every_hop_in_its_place(traced):
    found, client, _ = traced
    chain = [
        ("diplex.v1.GenerationService/GenerateStream", "diplex-gateway"),
        ("chat", "diplex-gateway"),
        ("attempt", "diplex-gateway"),
        ("diplex.worker.v1.WorkerService/Generate", "diplex-onnx-worker"),
    ]
    parent = client
    for name, service in chain:
        assert (found[name].parent, found[name].service) == (parent, service)
        parent = found[name].id
    steps = [found[name] for name in ("queue", "prefill", "decode")]
    assert {step.parent for step in steps} == {parent}
    assert len(found) == len(chain) + len(steps)
    assert not any(span.failed for span in found.values())


def test_an_engines_spans_follow_each_other_within_their_workers(traced):
    found, _, receipt = traced
    worker, queue, prefill, decode = (
        found[name] for name in ("diplex.worker.v1.WorkerService/Generate", "queue", "prefill", "decode")
    )
    assert worker.start <= queue.start <= queue.end == prefill.start <= prefill.end == decode.start
    assert decode.end <= worker.end
    told = receipt.timings
    for span, milliseconds in ((queue, told.queue_ms), (prefill, told.prefill_ms), (decode, told.decode_ms)):
        assert (span.end - span.start) / 1e6 == pytest.approx(milliseconds, abs=1e-3)


def test_spans_say_what_was_asked_and_what_it_took(traced):
    found, _, receipt = traced
    chat = found["chat"].attributes
    assert chat["gen_ai.operation.name"] == "chat"
    assert chat["gen_ai.provider.name"] == "diplex"
    assert (chat["gen_ai.request.max_tokens"], chat["gen_ai.request.temperature"]) == (9, 0)
    assert chat["gen_ai.response.model"] == "tiny-llama"
    assert chat["gen_ai.usage.output_tokens"] == receipt.usage.completion_tokens
    assert found["attempt"].attributes["diplex.attempt"] == 1
    assert found["decode"].attributes["gen_ai.usage.output_tokens"] == receipt.usage.completion_tokens
    assert not any(PROMPT in str(span.attributes) for span in found.values())


def scraped(service):
    """The samples that a process serves, by name and labels."""
    address = service.entry("metrics")["address"]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:  # our own
        text = reply.read().decode()
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(samples, name, **labels):
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


STREAM = "diplex.v1.GenerationService.GenerateStream"
TINY = {"gen_ai_request_model": "tiny-llama"}


@pytest.mark.parametrize(
    ("which", "rpc"), [("gateway", STREAM), ("worker", "diplex.worker.v1.WorkerService.Generate")]
)
def test_metrics_count_a_generation_once_it_has_ended(observed, which, rpc):
    service = getattr(observed, which)
    before = scraped(service)
    with observed.client() as client, client.stream("hi", max_tokens=5, temperature=0) as stream:
        stream.collect()
    usage, after = stream.receipt.usage, scraped(service)

    def grown(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert grown("diplex_requests_total", rpc=rpc, code="OK", model="tiny-llama") == 1
    assert value(after, "diplex_requests_in_flight", rpc=rpc) == 0
    assert grown("gen_ai_server_request_duration_seconds_count", **TINY, error_type="") == 1
    assert grown("gen_ai_server_time_to_first_token_seconds_count", **TINY) == 1
    assert grown("gen_ai_server_time_per_output_token_seconds_count", **TINY) == 1
    told = {"input": usage.prompt_tokens, "output": usage.completion_tokens}
    for kind, tokens in told.items():
        assert grown("gen_ai_client_token_usage_sum", **TINY, gen_ai_token_type=kind) == tokens
    assert grown("diplex_prompt_tokens_cached_total", **TINY) == usage.cached_prompt_tokens
    assert value(after, "process_resident_memory_bytes") > 1_000_000


def test_a_workers_metrics_tell_of_its_engines(observed):
    samples = scraped(observed.worker)
    labels = {**TINY, "precision": "fp32"}
    assert value(samples, "diplex_slots", **labels) == 16
    assert value(samples, "diplex_slots_busy", **labels) == 0
    assert value(samples, "diplex_model_ready", **labels) == 1
    engine = observed.engine().memory_info().rss
    assert value(samples, "diplex_engine_resident_bytes", **labels) == pytest.approx(engine, rel=0.2)


def test_callers_cannot_make_up_names_in_the_metrics(observed):
    with observed.client() as client, pytest.raises(errors.ModelNotFound):
        client.generate("hi", model="made-up")
    samples = scraped(observed.gateway)
    assert not any("made-up" in str(labels) for _, labels in samples)
    assert (
        value(
            samples,
            "gen_ai_server_request_duration_seconds_count",
            error_type="MODEL_NOT_FOUND",
            gen_ai_request_model="",
        )
        >= 1
    )


def access(service, request_id):
    line = service.line(lambda it: '"event": "access"' in it and f'"request_id": "{request_id}"' in it)
    return json.loads(line)


def test_each_process_logs_one_line_a_request(observed, traced):
    found, _, receipt = traced
    for service, rpc in (
        (observed.gateway, STREAM),
        (observed.worker, "diplex.worker.v1.WorkerService.Generate"),
    ):
        line = access(service, "traced")
        assert (line["rpc"], line["code"], line["model"]) == (rpc, "OK", "tiny-llama")
        assert line["worker"] == receipt.worker
        assert line["prompt_tokens"] == receipt.usage.prompt_tokens
        assert line["completion_tokens"] == receipt.usage.completion_tokens
        assert 0 < line["first_ms"] <= line["ms"]
        assert line["trace_id"] == found["chat"].trace
        assert sum('"request_id": "traced"' in it for it in service.lines) == 1


def test_a_refusal_is_a_line_with_its_reason(observed):
    with observed.client() as client, pytest.raises(errors.InvalidRequest):
        client.generate("hi", temperature=-1, request_id="refused")
    line = access(observed.gateway, "refused")
    assert (line["code"], line["reason"], line["level"]) == ("INVALID_ARGUMENT", "INVALID_REQUEST", "info")


def test_logs_hold_no_prompt(observed, traced):
    assert traced
    assert PROMPT not in observed.gateway.log + observed.worker.log
