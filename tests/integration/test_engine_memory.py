"""Memory of a real engine follows the tokens that it holds, through a burst and back."""

from __future__ import annotations

import gc

import psutil
import pytest

from tests.engine_run import GREEDY, Run
from workers.onnx_worker.backend import OnnxBackend
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.engine.intake import Encoded
from workers.runtime.engine.memory import engine_limits
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import Generation, Stopping, TokenIds
from workers.runtime.text.tokenizer import Tokenizer

MEBIBYTE = 2**20
CACHE = 8 * MEBIBYTE
SLACK = 6 * MEBIBYTE
"""What allocators of Python, numpy and ONNX Runtime keep, and what every slot's last pages leave unused."""
REQUESTS, LENGTH = 64, 480


class Measured:
    """A real backend beside which the most memory that was ever resident is kept."""

    def __init__(self, backend):
        self.backend = backend
        self.max_length, self.most_guessing = backend.max_length, backend.most_guessing
        self.stages, self.eyes = backend.stages, backend.eyes
        self.plans = []
        self.most = 0

    def forward(self, plan):
        result = self.backend.forward(plan)
        self.most = max(self.most, resident())
        return result

    def trim(self):
        self.backend.trim()


def resident():
    return psutil.Process().memory_info().rss


@pytest.fixture
def run(tiny_fp32):
    """An engine that has answered something and been trimmed, so that all its own memory is there."""
    description = ModelDescription.load(tiny_fp32)
    text = ModelText(Tokenizer.from_file(tiny_fp32 / TOKENIZER_FILE), description)
    config = EngineConfig(
        tiny_fp32, slots=REQUESTS, threads=1, prefill_chunk=512, prefix_cache_mib=CACHE // MEBIBYTE
    )
    backend = Measured(OnnxBackend(description, config))
    limits = engine_limits(config, description, backend.max_length)
    made = Run(backend, config, limits=limits, text=text)
    made(*requests(1000, 2))
    give_back(made)
    return made


def requests(first, count):
    """Long ones that have nothing in common."""
    for number in range(first, first + count):
        ids = tuple(3 + (number * 31 + i * (number % 7 + 1)) % 200 for i in range(LENGTH))
        yield Encoded(
            number, Generation(TokenIds(ids), GREEDY, Stopping(max_tokens=16)), (number % 200 + 3, *ids), 0.0
        )


def give_back(run):
    gc.collect()  # what tests before have left must not be freed later, beside what is measured
    run.engine._scheduler.forget()
    run.engine._settle()
    run.engine._backend.trim()


def test_memory_comes_back_after_a_burst_and_with_idle_time(run):
    before = resident()
    run(*requests(0, REQUESTS))
    run.engine._settle()
    run.engine._backend.trim()
    assert run.backend.most - before > CACHE + SLACK / 2
    assert CACHE * 0.9 < resident() - before < CACHE + SLACK
    give_back(run)
    assert resident() - before < SLACK
