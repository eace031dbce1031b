"""Prefill within the bound on stalls, and memory for keys and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from diplex.errors import ResourceExhausted
from tests.fake_backend import fake_description
from workers.runtime.engine.budget import LEAST_CHUNK, PrefillBudget
from workers.runtime.engine.memory import available_bytes, engine_limits
from workers.runtime.engine.messages import EngineConfig


def step(budget, *, prefilled=0, prefill=0.0, rows=0, decode=0.0):
    budget.record(prefilled, prefill, rows, decode)


def test_nobody_is_stalled_when_nothing_is_decoded():
    assert PrefillBudget(1.0, alone=512, shared=256).tokens(0) == 512


@pytest.mark.parametrize(("max_stall", "tokens"), [(0.0, LEAST_CHUNK), (0.5, 10), (1.0, 20), (100.0, 256)])
def test_a_step_keeps_within_the_bound(max_stall, tokens):
    budget = PrefillBudget(max_stall, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    step(budget, prefilled=10, prefill=0.01, rows=8, decode=0.02)
    assert budget.tokens(8) == tokens
    assert budget.tokens(9) == tokens


@pytest.mark.parametrize(("prompts", "tokens"), [(0, 20), (1, 20), (2, 40), (4, 80), (10**4, 256)])
def test_few_streams_wait_longer_for_many_prompts(prompts, tokens):
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    step(budget, prefilled=10, prefill=0.01, rows=8, decode=0.02)
    assert budget.tokens(8, prompts) == tokens


def test_pieces_get_smaller_as_they_get_more_expensive():
    budget = PrefillBudget(1.0, alone=512, shared=256)
    step(budget, rows=8, decode=0.02)
    sizes = []
    for cost in (0.0005, 0.001, 0.002, 0.008):
        step(budget, prefilled=10, prefill=10 * cost, rows=8, decode=0.02)
        sizes.append(budget.tokens(8))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == LEAST_CHUNK


# ---------------------------------------------------------------------------------------- memory


def limits(**settings):
    config = EngineConfig(Path(), **{"slots": 4} | settings)
    return engine_limits(config, fake_description(kv_bytes_per_token=2**20), 64)


def test_what_is_given_counts():
    assert limits(kv_mib=100).kv_tokens == 100
    assert limits(kv_mib=10**6).kv_tokens == 8 * 64
    assert limits(kv_mib=20).max_length == 20
    assert limits(kv_mib=100, prefix_cache_mib=7).cached_tokens == 7
    assert limits(kv_mib=100, prefix_cache_mib=0).rows == 4


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
