"""Prefill within the bound on stalls, and memory for keys and values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diplex.errors import ResourceExhausted
from tests.fake_backend import fake_description
from workers.runtime.engine.backend import StepResult
from workers.runtime.engine.budget import Budget, PrefillBudget
from workers.runtime.engine.memory import available_bytes, engine_limits
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan

NO_LOGITS = np.empty((0, 1), np.float32)


def step(budget, *, prefilled=0, prefill=0.0, rows=0, decode=0.0, beside=False):
    chunks = (Chunk(0, 9, 0, (1,) * prefilled, last=False),) if prefilled else ()
    done = StepPlan(chunks=chunks, rows=tuple(Row(i, 1, 1) for i in range(rows)))
    budget.record(StepResult(done, NO_LOGITS, prefill, decode), beside=beside)


def test_nobody_is_stalled_when_nothing_is_decoded():
    assert PrefillBudget(1.0, alone=512, shared=256).next(0) == Budget(512, 0)


def test_prompts_go_beside_decode_runs_while_these_keep_within_the_bound():
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    step(budget, rows=8, decode=0.035, beside=True)
    assert budget.next(8).beside == 256
    step(budget, rows=8, decode=0.08, beside=True)
    assert budget.next(8).beside == 0


def test_prefill_beside_is_tried_again():
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    step(budget, rows=8, decode=0.08, beside=True)
    for _ in range(512):
        assert budget.next(8).beside == 0
        step(budget, rows=8, decode=0.02)
    assert budget.next(8).beside == 256


def test_a_decode_run_alone_is_measured_again_and_again():
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    for _ in range(8):
        assert budget.next(8).beside
        step(budget, rows=8, decode=0.03, beside=True)
    assert budget.next(8).beside == 0


@pytest.mark.parametrize(("max_stall", "tokens"), [(0.0, 1), (0.5, 10), (1.0, 20), (100.0, 256)])
def test_pieces_before_a_decode_run_keep_within_the_bound(max_stall, tokens):
    budget = PrefillBudget(max_stall, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    step(budget, prefilled=10, prefill=0.01, rows=8, decode=0.02)
    assert budget.next(8).tokens == tokens
    assert budget.next(7).tokens == tokens


def test_pieces_get_smaller_as_they_get_more_expensive():
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    sizes = []
    for cost in (0.001, 0.002, 0.004, 0.008):
        step(budget, prefilled=10, prefill=10 * cost, rows=8, decode=0.02)
        sizes.append(budget.next(8).tokens)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 5


# ---------------------------------------------------------------------------------------- memory


def limits(**settings):
    config = EngineConfig(Path(), **{"slots": 4} | settings)
    return engine_limits(config, fake_description(kv_bytes_per_token=2**20), 64)


def test_what_is_given_counts():
    assert limits(kv_mib=100).kv_tokens == 100
    assert limits(kv_mib=10**6).kv_tokens == 8 * 64
    assert limits(kv_mib=20).max_length == 20
    assert limits(kv_mib=100, prefix_cache_mib=7).cached_tokens == 7
    assert limits(kv_mib=100, prefix_cache_mib=0).rows == 5


def test_hardly_any_memory_is_refused():
    with pytest.raises(ResourceExhausted, match="--kv-mib"):
        limits(kv_mib=3)


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="ascii")


def test_available_is_the_least_of_machine_and_groups(tmp_path):
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    assert available_bytes(proc, cgroups) is None
    write(proc / "meminfo", "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n")
    assert available_bytes(proc, cgroups) == 4000 * 1024
    write(proc / "self/cgroup", "0::/outer/inner\n")
    write(cgroups / "outer/inner/memory.max", "max\n")
    write(cgroups / "outer/inner/memory.current", "1\n")
    assert available_bytes(proc, cgroups) == 4000 * 1024
    write(cgroups / "outer/memory.max", "1000000\n")
    write(cgroups / "outer/memory.current", "900000\n")
    write(cgroups / "outer/memory.stat", "anon 5\ninactive_file 50000\n")
    assert available_bytes(proc, cgroups) == 150000
