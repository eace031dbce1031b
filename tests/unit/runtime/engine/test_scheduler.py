"""Lists in, lists out. What may come in any order is in ``test_scheduler_any_order.py``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine_run import Tries
from workers.runtime.engine.budget import Allowance
from workers.runtime.engine.plan import Chunk, Copy, Release, Row, StepPlan, Swap
from workers.runtime.engine.prompt_lookup import PromptLookup
from workers.runtime.engine.scheduler import Committed, Limits, Scheduler
from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.slots import SlotTable
from workers.runtime.generation import FinishReason

END, STOP = 7, 8
WORD = 1
BUDGET = 8


def scheduler(slots=4, max_length=32, *, rows=None, kv_tokens=10**6, cached_tokens=0):
    return Scheduler(Limits(slots, rows or slots, max_length, kv_tokens, cached_tokens))


def sequence(number, prompt=(10, 11, 12), *, max_tokens=None, priority=0, **more):
    return Sequence(number, tuple(prompt), max_tokens, frozenset({END}), frozenset({STOP}), priority, **more)


def step(scheduler, token=WORD, budget=BUDGET):
    """One step in which every sequence gets the same token."""
    plan = scheduler.schedule(Allowance(budget))
    return plan, scheduler.commit(plan, [token] * len(plan.sampled))


def test_nothing_to_do():
    plan = scheduler().schedule(Allowance(BUDGET))
    assert plan == StepPlan()
    assert not plan


def test_prefill_then_decode():
    under_test = scheduler()
    under_test.add(sequence(1))
    plan, committed = step(under_test)
    assert plan == StepPlan(chunks=(Chunk(1, 0, 0, (10, 11, 12), last=True),))
    assert plan.sampled == (1,)
    assert committed == [Committed(1, WORD, None)]
    plan, _ = step(under_test, 2)
    assert plan == StepPlan(rows=(Row(1, 3, WORD),))
    plan, _ = step(under_test)
    assert plan.rows == (Row(1, 4, 2),)


def test_a_prompt_of_one_token_is_decoded_at_once():
    under_test = scheduler()
    under_test.add(sequence(1, (10,)))
    assert step(under_test)[0] == StepPlan(rows=(Row(1, 0, 10),))


def test_long_prompt_goes_in_chunks():
    under_test = scheduler()
    under_test.add(sequence(1, range(10, 20)))
    plans = [step(under_test, budget=4)[0] for _ in range(3)]
    assert [plan.chunks for plan in plans] == [
        (Chunk(1, 0, 0, (10, 11, 12, 13), last=False),),
        (Chunk(1, 0, 4, (14, 15, 16, 17), last=False),),
        (Chunk(1, 0, 8, (18, 19), last=True),),
    ]
    assert [plan.sampled for plan in plans] == [(), (), (1,)]


def test_a_picture_that_must_not_be_divided_makes_a_chunk_longer():
    under_test = scheduler()
    under_test.add(sequence(1, (10, 11, 12, -2, -3, -4, 13, 14, -5, 15), undivided=True))
    plans = [step(under_test, budget=4)[0] for _ in range(2)]
    assert [plan.chunks for plan in plans] == [
        (Chunk(1, 0, 0, (10, 11, 12, -2, -3, -4), last=False),),
        (Chunk(1, 0, 6, (13, 14, -5, 15), last=True),),
    ]


def test_output_that_there_is_already_is_prefilled_and_counts():
    under_test = scheduler()
    under_test.add(sequence(1, max_tokens=4, prior=(20, 21, 22)))
    plan, committed = step(under_test)
    assert plan.chunks == (Chunk(1, 0, 0, (10, 11, 12, 20, 21, 22), last=True),)
    assert committed == [Committed(1, WORD, FinishReason.MAX_TOKENS)]


# -------------------------------------------------------------------------------- prefill's budget


def test_one_step_prefills_several_prompts_up_to_its_budget():
    under_test = scheduler()
    for number in (1, 2, 3):
        under_test.add(sequence(number))
    plan, _ = step(under_test, budget=3)
    assert [(chunk.sequence, chunk.tokens) for chunk in plan.chunks] == [
        (1, (10, 11, 12)),
        (2, (10, 11, 12)),
    ]
    assert plan.sampled == (1, 2)


def test_prompts_that_begin_together_stand_side_by_side():
    under_test = scheduler(slots=4, rows=8)
    under_test.add(sequence(1))
    step(under_test)
    under_test.add(sequence(2, range(10, 40)))
    step(under_test)
    for number in (3, 4):
        under_test.add(sequence(number, range(50, 53)))
    plan, _ = step(under_test)
    assert [(chunk.sequence, chunk.slot, chunk.start) for chunk in plan.chunks] == [(3, 1, 0), (4, 2, 0)]
    plan, _ = step(under_test)
    assert [row.sequence for row in plan.rows] == [1, 3, 4]


def test_a_newcomer_shares_steps_with_what_runs():
    under_test = scheduler()
    under_test.add(sequence(1))
    step(under_test)
    assert under_test.decoding == 1
    under_test.add(sequence(2, range(10, 16)))
    for start, last in ((0, False), (2, False), (4, True)):
        plan, _ = step(under_test, budget=2)
        (chunk,) = plan.chunks
        assert (chunk.slot, chunk.start, chunk.last) == (1, start, last)
        assert [row.sequence for row in plan.rows] == [1]
    plan, _ = step(under_test, budget=2)
    assert [row.sequence for row in plan.rows] == [1, 2]
    assert under_test.decoding == 2


def test_short_prompts_go_before_long_ones_but_for_a_turn_of_the_oldest():
    under_test = scheduler(slots=8)
    under_test.add(sequence(1, range(10, 40)))
    step(under_test)
    for number in range(2, 9):
        under_test.add(sequence(number, range(50, 56)))
    steps = [[chunk.sequence for chunk in step(under_test)[0].chunks] for _ in range(4)]
    assert [sorted(served) for served in steps] == [[2, 3], [4, 5], [6, 7], [1, 8]]


def test_prefill_is_by_priority_then_in_order():
    under_test = scheduler()
    for number, priority in ((1, 1), (2, 1), (3, 2)):
        under_test.add(sequence(number, priority=priority))
    order = [chunk.sequence for chunk in step(under_test, budget=9)[0].chunks]
    assert order == [3, 1, 2]


# ------------------------------------------------------------------------------------- in stages

STAGES = 3
LONG = tuple(range(100, 140))


def bounded(worth, tokens=64):
    return Allowance(tokens, worth)


def flying(scheduler, worth):
    """One step; what it did of a staged piece: sequence, start, tokens, first stage, count."""
    plan = scheduler.schedule(bounded(worth))
    scheduler.commit(plan, [WORD] * len(plan.sampled))
    if plan.staged is None:
        return plan, None
    chunk = plan.staged.chunk
    return plan, (chunk.sequence, chunk.start, len(chunk.tokens), plan.staged.first, plan.staged.count)


def beside_a_stream(**changes):
    """A scheduler in which sequence 1 decodes."""
    under_test = Scheduler(Limits(4, 8, 256, 10**6, 0, STAGES))
    under_test.add(sequence(1, **changes))
    step(under_test)
    return under_test


def test_what_fits_beside_streams_is_computed_at_once():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    plan, staged = flying(under_test, 80)
    assert [len(chunk.tokens) for chunk in plan.chunks] == [40]
    assert staged is None


def test_what_does_not_fit_goes_in_stages_and_streams_go_on():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    seen = []
    while under_test.decoding == 1:
        plan, staged = flying(under_test, 20)
        seen.append(staged)
        assert [row.sequence for row in plan.rows] == [1]
        assert plan.staged.chunk.slot == 7
    size = seen[0][2]
    assert 20 < size < 40
    assert seen[:STAGES] == [(2, 0, size, stage, 1) for stage in range(STAGES)]
    assert seen[STAGES][:4] == (2, size, 40 - size, 0)
    assert plan.staged.complete
    assert plan.sampled == (2, 1)
    assert [row.sequence for row in flying(under_test, 20)[0].rows] == [1, 2]


def test_a_flight_takes_as_many_stages_as_fit_and_lands_at_once_when_nobody_waits():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    assert flying(under_test, 20)[1][3:] == (0, 1)
    under_test.remove(1)
    plan = under_test.schedule(Allowance(64))
    assert (plan.staged.first, plan.staged.count) == (1, 2)


def test_short_prompts_pass_a_flight_in_every_other_step():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    flying(under_test, 40)
    for number in (3, 4):
        under_test.add(sequence(number, range(50, 60)))
    done = []
    for _ in range(4):
        plan, staged = flying(under_test, 26)
        done.append(([chunk.sequence for chunk in plan.chunks], staged is not None))
    assert ([3], False) in done or ([3, 4], False) in done
    assert ([], True) in done


def test_a_step_without_means_gets_on_by_one_stage():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    for stage in range(STAGES):
        assert flying(under_test, 0)[1] == (2, 0, 1, stage, 1)


def test_what_left_in_flight_begins_anew():
    under_test = beside_a_stream()
    under_test.add(sequence(2, LONG))
    flying(under_test, 20)
    under_test.remove(2)
    assert flying(under_test, 20)[1] is None
    under_test.add(sequence(3, LONG))
    assert flying(under_test, 20)[1][:2] == (3, 0)
    assert flying(under_test, 20)[1][3] == 1


# ---------------------------------------------------------------------------------------- rows


def test_a_hole_is_filled_by_a_waiting_sequence():
    under_test = scheduler(slots=2)
    for number in (1, 2, 3):
        under_test.add(sequence(number))
    step(under_test)
    assert (under_test.busy, under_test.queued) == (2, 1)
    under_test.remove(1)
    plan, _ = step(under_test)
    # What decodes comes to row 0, the newcomer stands behind it.
    assert plan.changes == (Release(0, 0), Swap(1, 0))
    assert [(chunk.sequence, chunk.slot) for chunk in plan.chunks] == [(3, 1)]
    assert plan.rows == (Row(2, 3, WORD),)
    assert (under_test.busy, under_test.queued) == (2, 0)


def test_holes_are_closed():
    under_test = scheduler()
    for number in (1, 2, 3, 4):
        under_test.add(sequence(number, (10, 11)))
    step(under_test)
    step(under_test)
    under_test.remove(1)
    under_test.remove(3)
    plan, _ = step(under_test)
    assert [change for change in plan.changes if isinstance(change, Swap)] == [Swap(3, 0)]
    assert plan.rows == (Row(4, 3, WORD), Row(2, 3, WORD))


def test_what_is_prefilled_makes_way_for_what_decodes():
    under_test = scheduler()
    under_test.add(sequence(1, range(10, 30)))
    under_test.add(sequence(2, (10, 11)))
    step(under_test, budget=4)
    plan, _ = step(under_test, budget=4)
    assert plan.changes == (Swap(1, 0),)
    assert [row.sequence for row in plan.rows] == [2]
    assert [chunk.slot for chunk in plan.chunks] == [1]


# ------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("token", "finish"),
    [(END, FinishReason.END_OF_SEQUENCE), (STOP, FinishReason.STOP), (WORD, None)],
)
def test_tokens_that_finish(token, finish):
    under_test = scheduler()
    under_test.add(sequence(1))
    _, committed = step(under_test, token)
    assert committed == [Committed(1, token, finish)]
    assert under_test.busy == (finish is None)


def test_the_models_own_end_is_told_before_the_callers_stop():
    under_test = scheduler()
    under_test.add(Sequence(1, (10,), 1, frozenset({END}), frozenset({END})))
    assert step(under_test, END)[1][0].finish is FinishReason.END_OF_SEQUENCE


@pytest.mark.parametrize("most", [1, 2, 5])
def test_max_tokens(most):
    under_test = scheduler()
    under_test.add(sequence(1, max_tokens=most))
    finishes = [step(under_test)[1][0].finish for _ in range(most)]
    assert finishes == [None] * (most - 1) + [FinishReason.MAX_TOKENS]
    plan = under_test.schedule(Allowance(BUDGET))
    assert not plan.chunks + plan.rows


@pytest.mark.parametrize("prompt", [1, 5, 7])
def test_a_full_context_ends_a_sequence(prompt):
    under_test = scheduler(max_length=8)
    under_test.add(sequence(1, range(10, 10 + prompt)))
    finishes = [step(under_test)[1][0].finish for _ in range(8 - prompt)]
    assert finishes == [None] * (7 - prompt) + [FinishReason.CONTEXT_LENGTH]


def test_a_sequence_removed_between_plan_and_commit_is_passed_over():
    under_test = scheduler()
    for number in (1, 2):
        under_test.add(sequence(number))
    plan = under_test.schedule(Allowance(BUDGET))
    assert under_test.remove(1)
    assert under_test.commit(plan, [3, 4]) == [Committed(2, 4, None)]
    plan = under_test.schedule(Allowance(BUDGET))
    assert Swap(1, 0) in plan.changes
    assert plan.rows == (Row(2, 3, 4),)


def test_removing_one_that_waits_and_one_that_nobody_knows():
    under_test = scheduler(slots=1)
    for number in (1, 2, 3):
        under_test.add(sequence(number, max_tokens=1))
    assert under_test.remove(2)
    assert not under_test.remove(2)
    assert [step(under_test)[1][0].sequence for _ in range(2)] == [1, 3]


def test_the_number_of_tokens_must_be_that_of_the_plan():
    under_test = scheduler()
    under_test.add(sequence(1))
    with pytest.raises(ValueError, match="2 tokens for 1 sampled"):
        under_test.commit(under_test.schedule(Allowance(BUDGET)), [1, 2])


# ------------------------------------------------------------------------------- prefix cache


PROMPT = tuple(range(100, 140))


def cached(*, slots=2, rows=4, cached_tokens=10**6, **more):
    return scheduler(slots, 64, rows=rows, cached_tokens=cached_tokens, **more)


def run(under_test, number, prompt, *, most=2, budget=64):
    """Runs a sequence to its end; its plans, and the tokens that it was spared."""
    under_test.add(sequence(number, prompt, max_tokens=most))
    plans, spared = [], None
    while spared is None:
        plan, committed = step(under_test, budget=budget)
        plans.append(plan)
        spared = next((one.cached for one in committed if one.sequence == number and one.finish), None)
    return plans, spared


def test_the_next_turn_takes_over_the_slot_of_the_last():
    under_test = cached()
    run(under_test, 1, PROMPT)
    plans, spared = run(under_test, 2, (*PROMPT, WORD, 50, 51))
    assert spared == 41
    assert plans[0].chunks == (Chunk(2, 0, 41, (50, 51), last=True),)


def test_the_same_prompt_again_is_decoded_at_once():
    under_test = cached()
    run(under_test, 1, PROMPT)
    plans, spared = run(under_test, 2, PROMPT)
    assert spared == 39
    assert plans[0].chunks == ()
    assert plans[0].rows == (Row(2, 39, PROMPT[-1]),)


def test_another_question_copies_the_part_in_common():
    under_test = cached()
    run(under_test, 1, PROMPT)
    plans, spared = run(under_test, 2, (*PROMPT[:30], 50, 51))
    assert spared == 30
    assert Copy(0, 1, 0, 30) in plans[0].changes
    assert plans[0].chunks == (Chunk(2, 1, 30, (50, 51), last=True),)
    # Both are still there.
    assert run(under_test, 3, (*PROMPT, WORD, 60))[1] == 41
    assert run(under_test, 4, (*PROMPT[:30], 50, 51, WORD, 60))[1] == 33


def test_a_busy_slot_lends_what_it_holds():
    under_test = cached()
    under_test.add(sequence(1, PROMPT))
    step(under_test, budget=64)
    plans, spared = run(under_test, 2, (*PROMPT, 50, 51))
    assert spared == 40
    assert Copy(0, 1, 0, 40) in plans[0].changes


def test_prompts_that_arrive_together_are_computed_once_where_they_agree():
    under_test = cached(slots=3)
    for number in (1, 2, 3):
        under_test.add(sequence(number, (*PROMPT, 50 + number, 60), max_tokens=2))
    plans, finished = [], []
    while len(finished) < 3:
        plan, committed = step(under_test, budget=16)
        plans.append(plan)
        finished += [one for one in committed if one.finish]
    assert sum(len(chunk.tokens) for plan in plans for chunk in plan.chunks) == 42 + 2 + 2
    assert [one.cached for one in finished] == [0, 40, 40]


def test_a_copy_is_spread_over_steps():
    under_test = scheduler(2, 512, rows=3, cached_tokens=10**6)
    long = tuple(range(1000, 1100))
    run(under_test, 1, long)
    under_test.add(sequence(3, (5, 6, 7, 8)))
    step(under_test)
    under_test.add(sequence(2, (*long[:80], 50, 51), max_tokens=1))
    copies = []
    for _ in range(4):
        plan, _ = step(under_test, budget=1)
        copies += [change for change in plan.changes if isinstance(change, Copy)]
        assert [row.sequence for row in plan.rows] == [3]
    assert [(copy.start, copy.end) for copy in copies] == [(0, 32), (32, 64), (64, 80)]


def test_a_prefix_whose_source_is_gone_is_computed():
    under_test = cached(slots=2, rows=2)
    under_test.add(sequence(1, PROMPT))
    step(under_test, budget=8)
    under_test.add(sequence(2, (*PROMPT, 50), max_tokens=1))
    step(under_test, budget=8)
    under_test.remove(1)
    plan, _ = step(under_test, budget=8)
    # What was computed is copied; the rest is not waited for.
    assert Copy(0, 1, 0, 16) in plan.changes
    assert [(chunk.sequence, chunk.start) for chunk in plan.chunks] == [(2, 16)]


def test_a_source_that_somebody_else_has_taken_is_not_copied():
    table = SlotTable(3, 10**6)
    first = list(PROMPT)
    source = table.take(1, first)
    follower = table.take(2, [*first, 50])
    assert follower.prefix is not None
    table.free(source)
    other = table.take(3, list(range(500, 560)))
    third = table.take(4, list(range(600, 660)))
    assert source in (other, third)
    source.length = 60
    assert table.copy(follower, 100) == 0
    assert follower.prefix is None


def test_little_in_common_is_not_worth_it():
    under_test = cached()
    run(under_test, 1, PROMPT)
    assert run(under_test, 2, (*PROMPT[:15], *range(60, 70)))[1] == 0


def test_without_a_cache_nothing_is_kept():
    under_test = cached(cached_tokens=0)
    run(under_test, 1, PROMPT)
    assert under_test.cached == 0
    assert run(under_test, 2, PROMPT)[1] == 0
    under_test.add(sequence(3, PROMPT))
    step(under_test)
    assert run(under_test, 4, PROMPT)[1] == 0


def test_what_was_of_use_least_recently_goes_first():
    under_test = cached(cached_tokens=100)
    others = (tuple(range(200, 240)), tuple(range(300, 340)))
    run(under_test, 1, PROMPT)
    run(under_test, 2, others[0])
    run(under_test, 3, PROMPT)
    assert under_test.cached == 82
    run(under_test, 4, others[1])
    # 41 and 41 and 41 are 23 too many: the end of the second one goes.
    assert under_test.cached == 100
    assert run(under_test, 5, PROMPT)[1] == 39
    assert run(under_test, 6, others[0])[1] == 18


def test_forgetting_gives_everything_back():
    under_test = cached()
    run(under_test, 1, PROMPT)
    under_test.schedule(Allowance(BUDGET))
    under_test.forget()
    assert under_test.schedule(Allowance(BUDGET)) == StepPlan(changes=(Release(0, 0),))
    assert under_test.cached == 0


def test_what_cannot_be_trusted_is_not_kept():
    under_test = cached()
    under_test.add(sequence(1, PROMPT))
    step(under_test, budget=64)
    under_test.discard(1)
    assert under_test.cached == 0
    assert run(under_test, 2, PROMPT)[1] == 0


# ------------------------------------------------------------------------------------ KV admission


def test_a_prompt_waits_until_it_fits():
    under_test = scheduler(kv_tokens=60, max_length=60)
    under_test.add(sequence(1, range(10, 35), max_tokens=2))
    under_test.add(sequence(2, range(10, 35)))
    under_test.add(sequence(3, (10, 11)))
    step(under_test, budget=64)
    # 25 and 25 and room for the first to grow are more than 60; the third doesn't overtake.
    assert (under_test.busy, under_test.queued) == (1, 2)
    step(under_test, budget=64)
    step(under_test, budget=64)
    assert under_test.busy == 2


def test_cached_tokens_make_way():
    under_test = scheduler(2, 60, rows=4, kv_tokens=60, cached_tokens=60)
    run(under_test, 1, PROMPT)
    assert under_test.cached == 41
    run(under_test, 2, range(200, 235))
    assert under_test.cached <= 60


def test_growth_preempts_the_latest_of_the_lowest_priority():
    under_test = scheduler(4, 64, kv_tokens=100, cached_tokens=100)
    for number, priority in ((1, 1), (2, 0), (3, 0)):
        under_test.add(sequence(number, range(number * 100, number * 100 + 17), priority=priority))
    while under_test.busy == 3 or under_test.queued == 3:
        plan, _ = step(under_test, budget=64)
    # Three sequences of 33 or 34 tokens are as many as fit.
    assert [row.sequence for row in plan.rows] == [1, 2]
    assert [row.past for row in plan.rows] == [33, 33]
    assert (under_test.busy, under_test.queued) == (2, 1)
    # Its tokens stay as cache, as far as they fit.
    assert under_test.cached > 16
    under_test.remove(1)
    plan, _ = step(under_test, budget=64)
    assert [chunk.sequence for chunk in plan.chunks] == [3]
    assert plan.chunks[0].start > 16
    assert plan.chunks[0].start + len(plan.chunks[0].tokens) == 34


def test_a_lone_sequence_may_fill_everything():
    under_test = scheduler(2, 40, kv_tokens=40)
    under_test.add(sequence(1, range(10, 20)))
    finishes = [step(under_test, budget=64)[1][0].finish for _ in range(30)]
    assert finishes[-1] is FinishReason.CONTEXT_LENGTH


# ------------------------------------------------------------------------------------ speculation


def speculating(prompt=(20, 21, 22, 23, 20, 21), **more):
    under_test = scheduler()
    under_test.add(sequence(1, prompt, lookup=PromptLookup(), **more))
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    assert plan.rows == ()
    under_test.commit(plan, [22])
    return under_test


def test_guesses_are_taken_as_long_as_they_are_right():
    under_test = speculating()
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    assert plan.rows == (Row(1, 6, 22, (23, 20, 21, 22)),)
    assert plan.sampled == (1,) * 5
    committed = under_test.commit(plan, [23, 20, 99, 22, 23])
    assert [(one.token, one.guessed) for one in committed] == [(23, True), (20, True), (99, False)]
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    # Behind what was right, the slot holds what was taken in for a wrong guess: it is written over.
    assert plan.rows == (Row(1, 9, 99),)


def test_all_guesses_right_give_one_token_more():
    under_test = speculating()
    plan = under_test.schedule(Allowance(BUDGET), Tries(2))
    committed = under_test.commit(plan, [23, 20, 55])
    assert [one.token for one in committed] == [23, 20, 55]
    assert under_test.schedule(Allowance(BUDGET), Tries(2)).rows == (Row(1, 9, 55),)


@pytest.mark.parametrize(("most", "drafts"), [(2, 0), (3, 1), (5, 3), (9, 4)])
def test_no_more_is_guessed_than_may_be_said(most, drafts):
    under_test = speculating(max_tokens=most)
    assert len(under_test.schedule(Allowance(BUDGET), Tries(4)).rows[0].drafts) == drafts


def test_no_more_is_guessed_than_the_context_holds():
    under_test = scheduler(max_length=10)
    under_test.add(sequence(1, (20, 21, 22, 23, 20, 21), lookup=PromptLookup()))
    under_test.commit(under_test.schedule(Allowance(BUDGET), Tries(4)), [22])
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    assert len(plan.rows[0].drafts) == 2
    committed = under_test.commit(plan, [23, 20, 21])
    assert [one.finish for one in committed] == [None, None, FinishReason.CONTEXT_LENGTH]


@pytest.mark.parametrize(("end", "reason"), [(END, FinishReason.END_OF_SEQUENCE), (STOP, FinishReason.STOP)])
def test_what_ends_a_sequence_ends_it_in_the_middle_of_guesses(end, reason):
    under_test = speculating((20, 21, 22, 23, end, 25, 20, 21))
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    assert plan.rows[0].drafts == (23, end, 25, 20)
    committed = under_test.commit(plan, [23, end, 25, 20, 21])
    assert [(one.token, one.finish) for one in committed] == [(23, None), (end, reason)]
    assert committed[-1].guessed


def test_there_are_no_guesses_beside_a_prompt():
    under_test = speculating()
    under_test.add(sequence(2, range(30, 60)))
    plan = under_test.schedule(Allowance(BUDGET), Tries(4))
    assert plan.chunks
    assert plan.rows[0].drafts == ()


def test_every_row_has_guesses_of_its_own():
    under_test = speculating()
    under_test.add(sequence(2, (30, 31, 30, 31, 30), lookup=PromptLookup()))
    under_test.add(sequence(3, (40, 41, 42), lookup=PromptLookup()))
    under_test.add(sequence(4, (50, 51, 50, 51, 50)))
    plan = under_test.schedule(Allowance(100))
    under_test.commit(plan, [{2: 31, 3: 43, 4: 51}.get(one, 23) for one in plan.sampled])
    plan = under_test.schedule(Allowance(100), Tries(2))
    assert {row.sequence: row.drafts for row in plan.rows} == {1: (20, 21), 2: (30, 31), 3: (), 4: ()}
    assert sorted(plan.sampled) == [1, 1, 1, 2, 2, 2, 3, 4]
    right = {1: iter((20, 21, 22)), 2: iter((30, 99, 99)), 3: iter((44,)), 4: iter((50,))}
    committed = under_test.commit(plan, [next(right[one]) for one in plan.sampled])
    assert sorted((one.sequence, one.token) for one in committed) == [
        (1, 20), (1, 21), (1, 22), (2, 30), (2, 99), (3, 44), (4, 50),
    ]  # fmt: skip


def test_cached_tokens_go_for_guesses():
    under_test = scheduler(max_length=64, kv_tokens=64, cached_tokens=64)
    under_test.add(sequence(1, range(30, 60), max_tokens=1))
    while under_test.busy or under_test.queued:
        step(under_test)
    assert under_test.cached == 30
    under_test.add(sequence(2, (20, 21) * 15, lookup=PromptLookup()))
    while not (plan := under_test.schedule(Allowance(BUDGET), Tries(4))).rows:
        under_test.commit(plan, [20 for _ in plan.sampled])
    assert len(plan.rows[0].drafts) == 4
    assert under_test.cached <= 64 - 31 - 4


PROMPTS = st.lists(st.integers(10, 99), min_size=1, max_size=23).map(tuple)


@settings(max_examples=100, deadline=None)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.integers(1, 8), st.integers(0, 2)), min_size=1, max_size=12),
    slots=st.integers(1, 4),
    budget=st.integers(1, 8),
)
def test_every_sequence_gets_its_turn(prompts, slots, budget):
    under_test = scheduler(slots, 32)
    for number, (prompt, most, priority) in enumerate(prompts):
        under_test.add(sequence(number, prompt, max_tokens=most, priority=priority))
    finished = set()
    # Each step prefills at least a token or decodes at least one.
    for _ in range(sum(len(prompt) + most for prompt, most, _ in prompts)):
        finished |= {
            committed.sequence for committed in step(under_test, budget=budget)[1] if committed.finish
        }
    assert finished == set(range(len(prompts)))


@pytest.mark.parametrize(
    ("before", "given_back"), [(120, (Release(0, 120), Release(0, 10 + 64))), (60, (Release(0, 60),))]
)
def test_a_slot_keeps_some_memory_beyond_its_next_sequence(before, given_back):
    under_test = scheduler(slots=1, rows=1, max_length=200, kv_tokens=200, cached_tokens=200)
    under_test.add(sequence(1, range(1000, 1000 + before)))
    step(under_test, budget=200)
    under_test.remove(1)
    under_test.add(sequence(2, range(2000, 2010)))
    assert under_test.schedule(Allowance(BUDGET)).changes == given_back


def test_a_prompt_that_is_cancelled_on_its_way_gives_its_memory_back():
    under_test = scheduler(slots=1, rows=1, max_length=200, kv_tokens=200, cached_tokens=200)
    under_test.add(sequence(1, range(1000, 1120)))
    under_test.schedule(Allowance(200))
    under_test.remove(1)
    assert under_test.schedule(Allowance(BUDGET)).changes == (Release(0, 0),)
