"""``diplex generate`` against a gateway and a worker: an answer that names Paris, streamed, with receipt."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from tests.e2e import services

QUESTION = "What is the capital of France?"


@dataclass(frozen=True)
class Spoken:
    """What a command wrote to standard output, and when."""

    pieces: list[tuple[float, bytes]]

    @property
    def text(self):
        return b"".join(piece for _, piece in self.pieces).decode()

    @property
    def seconds(self):
        return self.pieces[-1][0] - self.pieces[0][0]


@pytest.fixture
def generate(stack):
    """Runs ``diplex generate`` to its end."""

    def run(*arguments):
        argv = [sys.executable, "-m", "diplex.cli", "generate", *arguments]
        env = services.environment(DIPLEX_ADDRESS=stack.address)
        pieces = []
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env) as process:
            while piece := os.read(process.stdout.fileno(), 1 << 16):
                pieces.append((time.monotonic(), piece))
            assert process.wait(10) == 0
        return Spoken(pieces)

    return run


def test_names_paris(generate):
    # Greedy: sampled, one answer in twelve of this small model is about something else.
    assert "Paris" in generate(QUESTION, "--temperature", "0").text


def test_text_arrives_in_pieces_while_it_is_generated(generate, figure):
    spoken = generate("--raw", services.ENDLESS, "--max-tokens", "64", "--temperature", "0")

    assert len(spoken.pieces) >= 8
    assert spoken.seconds > 0.1
    figure("64 tokens arrive", f"in {len(spoken.pieces)} pieces over {spoken.seconds:.2f} s")


def test_receipt_is_whole(generate, stack):
    document = json.loads(generate(QUESTION, "--json", "--seed", "7", "--max-tokens", "40").text)

    assert "Paris" in document["text"]
    assert document["finish_reason"] in {"end_of_sequence", "max_tokens"}
    receipt = document["receipt"]
    deployment = stack.deployment()
    assert re.fullmatch(r"[0-9a-f]{32}", receipt["request_id"])
    assert receipt["model"] == services.DEFAULT_MODEL
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", receipt["model_digest"])
    assert receipt["model_digest"] == deployment.digest
    assert (receipt["backend"], receipt["precision"]) == ("onnx", "int8")
    assert receipt["worker"] == deployment.worker != ""
    assert receipt["attempts"] == 1
    assert receipt["seed"] == 7
    assert receipt["usage"]["prompt_tokens"] > 10
    assert 0 < receipt["usage"]["completion_tokens"] <= 40
    assert receipt["timings"]["queue_ms"] >= 0
    assert receipt["timings"]["prefill_ms"] > 0
    assert receipt["timings"]["decode_ms"] > 0
    assert document["client"]["first_ms"] >= receipt["timings"]["prefill_ms"]


def test_a_seed_that_the_receipt_told_gives_the_same_text_again(generate):
    arguments = ("Tell me a story about a fox.", "--temperature", "1", "--max-tokens", "24", "--json")
    first = json.loads(generate(*arguments).text)

    second = json.loads(generate(*arguments, "--seed", str(first["receipt"]["seed"])).text)

    assert second["text"] == first["text"]
