"""From a gateway's message to what the engine gets."""

from __future__ import annotations

import time

import pytest

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from workers.runtime import wire
from workers.runtime.catalogue import Catalogue


@pytest.fixture
def entry():
    return Catalogue.load().find("SmolLM2-135M-Instruct").entry


def test_who_asks_and_until_when_reach_the_engine(entry):
    message = worker_pb2.GenerateRequest(request=pb.GenerateRequest(prompt="Hi"), client="me")
    before = time.monotonic()
    generation = wire.generation(message, entry, timeout=30.0)
    assert generation.client == "me"
    assert before + 30 <= generation.deadline <= time.monotonic() + 30
    assert wire.generation(message, entry, timeout=None).deadline is None
