"""A foreign client, grpcurl, that knows nothing of our protos but what reflection tells it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

GRPCURL = Path(sys.executable).with_name("grpcurl")
QUESTION = {
    "chat": {
        "messages": [
            {"role": "ROLE_SYSTEM", "parts": [{"text": "You are a helpful AI assistant."}]},
            {"role": "ROLE_USER", "parts": [{"text": "What is the capital of France?"}]},
        ]
    },
    "sampling": {"temperature": 0},
    "stopping": {"maxTokens": 32},
}


@pytest.fixture
def grpcurl(stack):
    """Runs grpcurl against the gateway; returns what it printed."""

    def run(*arguments, request=None, fails=False):
        flags = ["-plaintext", "-max-time", "30", *(["-d", json.dumps(request)] if request else [])]
        done = subprocess.run(
            [GRPCURL, *flags, stack.address, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert bool(done.returncode) is fails, done.stderr
        return done.stderr if fails else done.stdout

    return run


def documents(text):
    """The JSON documents that stand one behind the other in a text."""
    decoder, position, found = json.JSONDecoder(), 0, []
    while (rest := text[position:].lstrip()) != "":
        document, length = decoder.raw_decode(rest)
        found.append(document)
        position = len(text) - len(rest) + length
    return found


def test_lists_the_services(grpcurl):
    assert set(grpcurl("list").split()) == {
        "diplex.v1.GenerationService",
        "diplex.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.parametrize(
    ("symbol", "part"),
    [
        (
            "diplex.v1.GenerationService",
            "rpc GenerateStream ( .diplex.v1.GenerateRequest ) returns ( stream .diplex.v1.Generate",
        ),
        ("diplex.v1.GenerateRequest", ".diplex.v1.ChatInput chat = 4;"),
        ("diplex.v1.SamplingOptions", "optional float temperature = 1;"),
        ("diplex.v1.ModelService", "rpc ListModels"),
    ],
)
def test_describes(grpcurl, symbol, part):
    assert part in grpcurl("describe", symbol)


def test_health(grpcurl):
    [reply] = documents(grpcurl("grpc.health.v1.Health/Check"))

    assert reply == {"status": "SERVING"}


def test_generate(grpcurl):
    [reply] = documents(grpcurl("diplex.v1.GenerationService/Generate", request=QUESTION))

    [choice] = reply["choices"]
    assert "Paris" in choice["text"]
    assert choice["finish_reason"] == "FINISH_REASON_END_OF_SEQUENCE"
    assert reply["receipt"]["model_digest"].startswith("sha256:")


def test_generate_stream(grpcurl):
    events = documents(grpcurl("diplex.v1.GenerationService/GenerateStream", request=QUESTION))

    kinds = [next(kind for kind in event if kind != "sequence") for event in events]
    deltas = kinds.count("delta")
    assert kinds == ["accepted", *["delta"] * deltas, "finished", "receipt"]
    assert deltas > 1
    assert "Paris" in "".join(event["delta"].get("text", "") for event in events if "delta" in event)
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))


def test_a_refusal_is_readable(grpcurl):
    bad = {"prompt": "Hi", "sampling": {"temperature": -1}}

    said = grpcurl("diplex.v1.GenerationService/Generate", request=bad, fails=True)

    assert "Code: InvalidArgument" in said
    assert '"reason":"INVALID_REQUEST"' in said
    assert '"field":"sampling.temperature"' in said
