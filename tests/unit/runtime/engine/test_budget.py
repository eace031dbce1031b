"""Prefill within the bound on stalls, and memory for keys and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from diplex.errors import ResourceExhausted
from tests.fake_backend import fake_description
from workers.runtime.engine.budget import Allowance, PrefillBudget
from workers.runtime.engine.memory import available_bytes, engine_limits
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StagedChunk, StepPlan

DECODE = 0.02
WORTH = 0.0005
"""Seconds."""


def chunk(tokens, start=0, sequence=1):
    return Chunk(sequence, 0, start, (5,) * tokens, last=True)


def rows(count):
    return tuple(Row(number, 9, 5) for number in range(count))


def measured(max_stall, decoding=8):
    """A budget that knows what things take."""
    budget = PrefillBudget(max_stall, alone=512, shared=256)
    budget.record(StepPlan(rows=rows(decoding)), 0.0, DECODE)
    piece = chunk(10)
    budget.record(StepPlan(chunks=(piece,)), WORTH * worth_of(piece), 0.0)
    return budget


def worth_of(piece):
    """What a piece is worth, by what an allowance takes it for."""
    least, most = 0.0, 1e6
    while most - least > 1e-6:
        middle = (least + most) / 2
        if Allowance(10**6, middle).take(piece.start, len(piece.tokens)):
            most = middle
        else:
            least = middle
    return most


def seconds(piece):
    return WORTH * worth_of(piece)


def test_nobody_is_stalled_when_nothing_is_decoded():
    allowance = PrefillBudget(1.0, alone=512, shared=256).allowance(0)
    assert (allowance.tokens, allowance.bounded) == (512, False)
    assert allowance.take(0, 1000) == 512


def test_behind_the_longest_piece_whole_prompts_have_as_much_again():
    allowance = PrefillBudget(1.0, alone=512, shared=256).allowance(0)
    assert [allowance.take(0, tokens) for tokens in (1000, 513, 400, 113, 112, 1)] == [512, 0, 400, 0, 112, 0]


@pytest.mark.parametrize("max_stall", [0.45, 1.0, 3.0])
@pytest.mark.parametrize("start", [0, 100, 1000, 4000])
def test_what_is_computed_at_once_keeps_within_the_bound(max_stall, start):
    budget = measured(max_stall)
    for decoding in (8, 9):
        fitting = [n for n in range(1, 300) if budget.allowance(decoding).take(start, n)]
        assert fitting == list(range(1, len(fitting) + 1))
        assert len(fitting) <= 256
        for tokens in fitting:
            assert seconds(chunk(tokens, start)) <= max_stall * DECODE * 1.001


@pytest.mark.parametrize("max_stall", [0.45, 1.0, 3.0])
@pytest.mark.parametrize("start", [0, 100, 1000, 4000])
def test_a_stage_of_what_is_not_keeps_within_the_bound(max_stall, start):
    stages = 10
    allowance = measured(max_stall).allowance(8)
    size = allowance.take_staged(start, 1000, stages)
    count = allowance.stages(start, size, stages, stages)
    assert 0 < size <= 256
    assert count >= 1
    # A piece's tokens attend to one another too, which is left out when its size is chosen.
    assert seconds(chunk(size, start)) * count / stages <= 1.25 * max_stall * DECODE


def test_no_means_still_get_on():
    allowance = measured(0.0).allowance(8)
    assert allowance.take(0, 50) == 0
    assert allowance.take_staged(0, 50, 3) == 1
    assert allowance.stages(0, 1, 3, 3) == 1
    assert allowance.stages(0, 1, 2, 3) == 0


def test_no_piece_is_begun_of_what_others_have_left_too_little_for():
    few = PrefillBudget(1.0, alone=512, shared=100)
    few.record(StepPlan(rows=(Row(0, 0, 0),)), 0.0, 1000.0)
    few.record(StepPlan(chunks=(chunk(10),)), 1.0, 0.0)
    allowance = few.allowance(1)
    assert [allowance.take(0, 38) for _ in range(6)] == [38, 38, 38, 38, 38, 0]
    assert allowance.take_staged(0, 38, 10) == 0
    assert few.allowance(1).take_staged(0, 4000, 10) == 100


def test_before_anything_was_measured_a_step_gets_on():
    allowance = PrefillBudget(1.0, alone=512, shared=256).allowance(8)
    assert allowance.take(0, 50) == 0
    assert allowance.take_staged(0, 50, 3) == 1


def test_few_streams_wait_longer_for_many_prompts():
    budget = measured(1.0)
    fitting = [
        max(n for n in range(300) if not n or budget.allowance(16, prompts).take(0, n))
        for prompts in (0, 1, 2, 3, 10**4)
    ]
    assert fitting[0] == fitting[1] == fitting[2] < fitting[3] < fitting[4] == 256


def test_a_single_prompt_holds_up_few_streams_but_a_little_longer():
    least, few, many = (
        measured(0.45, streams).allowance(streams, 1).stages(0, 200, 100, 100) for streams in (1, 4, 8)
    )
    assert least == few > many


def test_pieces_of_a_step_share_a_run():
    budget = measured(1.5)
    allowance = budget.allowance(8)
    assert [allowance.take(0, 8) for _ in range(6)] == [8, 8, 8, 8, 8, 0]
    behind = budget.allowance(8)
    assert [behind.take(100, 8) for _ in range(6)] == [8, 8, 8, 8, 0, 0]


def test_pieces_follow_what_the_latest_took():
    budget = measured(1.0)
    sizes = []
    for cost in (1, 2, 4, 8):
        piece = chunk(10)
        for _ in range(20):
            budget.record(StepPlan(chunks=(piece,)), cost * WORTH * worth_of(piece), 0.0)
        sizes.append(budget.allowance(8).take_staged(0, 1000, 10))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_stages_are_measured_as_parts():
    whole, staged = measured(1.0), measured(1.0)
    piece = chunk(200)
    overhead = 1.1  # at least, of weights that aren't laid out
    whole.record(StepPlan(chunks=(piece,)), 2 * seconds(piece), 0.0)
    part = StagedChunk(piece, first=3, count=2, of=10)
    staged.record(StepPlan(staged=part), 2 * seconds(piece) * 2 / 10, 0.0)
    sizes = [budget.allowance(8).take_staged(0, 1000, 10) for budget in (whole, staged)]
    assert sizes[0] <= sizes[1] <= overhead * sizes[0]


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
