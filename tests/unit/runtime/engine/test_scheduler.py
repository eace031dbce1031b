"""Lists in, lists out; then whatever may come in any order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers.runtime.engine.plan import Chunk, Move, Row, StepPlan
from workers.runtime.engine.scheduler import Committed, Scheduler, Sequence
from workers.runtime.generation import FinishReason

END, STOP = 7, 8
WORD = 1


def scheduler(slots=4, max_length=32, prefill_chunk=8, shared_prefill_chunk=4):
    return Scheduler(slots, max_length, prefill_chunk, shared_prefill_chunk)


def sequence(number, prompt=(10, 11, 12), *, max_tokens=None, priority=0):
    return Sequence(number, tuple(prompt), max_tokens, frozenset({END}), frozenset({STOP}), priority)


def step(scheduler, token=WORD):
    """One step in which every sequence gets the same token."""
    plan = scheduler.schedule()
    return plan, scheduler.commit(plan, [token] * len(plan.sampled))


def test_nothing_to_do():
    plan = scheduler().schedule()
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
    assert plan == StepPlan(rows=(Row(1, 0, 3, WORD),))
    plan, _ = step(under_test)
    assert plan.rows == (Row(1, 0, 4, 2),)


def test_long_prompt_goes_in_chunks():
    under_test = scheduler(prefill_chunk=4)
    under_test.add(sequence(1, range(10, 20)))
    plans = [step(under_test)[0] for _ in range(3)]
    assert [plan.chunks for plan in plans] == [
        (Chunk(1, 0, 0, (10, 11, 12, 13), last=False),),
        (Chunk(1, 0, 4, (14, 15, 16, 17), last=False),),
        (Chunk(1, 0, 8, (18, 19), last=True),),
    ]
    assert [plan.sampled for plan in plans] == [(), (), (1,)]


def test_one_step_prefills_several_prompts_up_to_its_budget():
    under_test = scheduler(prefill_chunk=8)
    for number in (1, 2, 3):
        under_test.add(sequence(number))
    plan, _ = step(under_test)
    assert [(chunk.sequence, chunk.tokens) for chunk in plan.chunks] == [
        (1, (10, 11, 12)),
        (2, (10, 11, 12)),
        (3, (10, 11)),
    ]
    assert plan.sampled == (1, 2)


def test_a_newcomer_stalls_nobody():
    under_test = scheduler(prefill_chunk=8, shared_prefill_chunk=2)
    under_test.add(sequence(1))
    step(under_test)
    under_test.add(sequence(2, range(10, 15)))
    for start, last in ((0, False), (2, False), (4, True)):
        plan, _ = step(under_test)
        (chunk,) = plan.chunks
        assert (chunk.slot, chunk.start, chunk.last) == (1, start, last)
        assert [row.sequence for row in plan.rows] == [1]
    plan, _ = step(under_test)
    assert [row.sequence for row in plan.rows] == [1, 2]


def test_idle_slots_are_those_in_prefill_below_a_decoding_one():
    under_test = scheduler(slots=3, prefill_chunk=8, shared_prefill_chunk=2)
    for number in (1, 2):
        under_test.add(sequence(number))
    step(under_test)
    under_test.remove(1)
    under_test.add(sequence(3, range(10, 15)))
    under_test.add(sequence(4, range(10, 15)))
    plans = [step(under_test)[0] for _ in range(3)]
    assert [plan.chunks[0].slot for plan in plans] == [0, 0, 0]
    # Behind what the slot holds once this step's chunk is in it; slot 2 is above the highest row.
    assert [plan.idle for plan in plans] == [((0, 2),), ((0, 4),), ((0, 5),)]
    assert step(under_test)[0].idle == ()


def test_a_slot_that_no_budget_is_left_for_is_idle_too():
    under_test = scheduler(slots=3, prefill_chunk=8, shared_prefill_chunk=2)
    for number in (1, 2, 3):
        under_test.add(sequence(number, (10, 11)))
    step(under_test)
    under_test.remove(1)
    under_test.remove(2)
    under_test.add(sequence(4, range(10, 15)))
    under_test.add(sequence(5, range(10, 15)))
    plan, _ = step(under_test)
    assert [chunk.sequence for chunk in plan.chunks] == [4]
    assert plan.idle == ((0, 2), (1, 0))


def test_a_hole_is_filled_by_a_waiting_sequence():
    under_test = scheduler(slots=2)
    for number in (1, 2, 3):
        under_test.add(sequence(number))
    step(under_test)
    assert (under_test.busy, under_test.queued) == (2, 1)
    under_test.remove(1)
    plan, _ = step(under_test)
    assert plan.moves == ()
    assert [(chunk.sequence, chunk.slot) for chunk in plan.chunks] == [(3, 0)]
    assert (under_test.busy, under_test.queued) == (2, 0)


def test_a_hole_that_nobody_fills_is_closed():
    under_test = scheduler()
    for number in (1, 2, 3, 4):
        under_test.add(sequence(number, (10, 11)))
    step(under_test)
    step(under_test)
    under_test.remove(1)
    under_test.remove(3)
    plan, _ = step(under_test)
    assert plan.moves == (Move(3, 0, 3),)
    assert plan.rows == (Row(4, 0, 3, WORD), Row(2, 1, 3, WORD))


def test_the_queue_is_by_priority_then_by_arrival():
    under_test = scheduler(slots=1)
    for number, priority in ((1, 1), (2, 1), (3, 2), (4, 0), (5, 2)):
        under_test.add(sequence(number, max_tokens=1, priority=priority))
    order = [step(under_test)[1][0].sequence for _ in range(5)]
    assert order == [3, 5, 1, 2, 4]


def test_prefill_is_by_priority_then_by_arrival():
    under_test = scheduler(prefill_chunk=3)
    for number, priority in ((1, 1), (2, 1), (3, 2)):
        under_test.add(sequence(number, priority=priority))
    order = [step(under_test)[0].chunks[0].sequence for _ in range(3)]
    assert order == [3, 1, 2]


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
    assert not under_test.schedule()


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
    plan = under_test.schedule()
    assert under_test.remove(1)
    assert under_test.commit(plan, [3, 4]) == [Committed(2, 4, None)]
    plan = under_test.schedule()
    assert plan.moves == (Move(1, 0, 3),)
    assert plan.rows == (Row(2, 0, 3, 4),)


def test_removing_one_that_waits_and_one_that_nobody_knows():
    under_test = scheduler(slots=1)
    for number in (1, 2, 3):
        under_test.add(sequence(number, max_tokens=1))
    assert under_test.remove(2)
    assert not under_test.remove(2)
    assert [step(under_test)[1][0].sequence for _ in range(2)] == [1, 3]
    assert not under_test.schedule()


PROMPTS = st.lists(st.integers(10, 99), min_size=1, max_size=23).map(tuple)


@settings(max_examples=100, deadline=None)
@given(
    prompts=st.lists(st.tuples(PROMPTS, st.integers(1, 8), st.integers(0, 2)), min_size=1, max_size=12),
    slots=st.integers(1, 4),
    chunks=st.tuples(st.integers(1, 8), st.integers(1, 8)),
)
def test_every_sequence_gets_its_turn(prompts, slots, chunks):
    under_test = scheduler(slots, 32, *chunks)
    for number, (prompt, most, priority) in enumerate(prompts):
        under_test.add(sequence(number, prompt, max_tokens=most, priority=priority))
    finished = set()
    # Each step prefills at least a token or decodes at least one.
    for _ in range(sum(len(prompt) + most for prompt, most, _ in prompts)):
        finished |= {committed.sequence for committed in step(under_test)[1] if committed.finish}
    assert finished == set(range(len(prompts)))
    assert not under_test.schedule()


class AnyOrder(RuleBasedStateMachine):
    """Adds, removes and steps in any order, and keeps its own record of what every slot holds."""

    SLOTS, LENGTH, CHUNK, SHARED_CHUNK = 3, 24, 6, 2

    def __init__(self):
        super().__init__()
        self.scheduler = scheduler(self.SLOTS, self.LENGTH, self.CHUNK, self.SHARED_CHUNK)
        self.numbers = iter(range(10**6))
        self.texts = {}  # id -> prompt and tokens so far, of sequences that have not ended
        self.prompts = {}  # id -> prompt
        self.held = [[] for _ in range(self.SLOTS)]  # slot -> tokens
        self.ahead = {}  # id -> ids that it may not overtake

    @rule(prompt=PROMPTS, most=st.none() | st.integers(1, 6), priority=st.integers(0, 2))
    def add(self, prompt, most, priority):
        number = next(self.numbers)
        self.scheduler.add(sequence(number, prompt, max_tokens=most, priority=priority))
        self.texts[number], self.prompts[number] = list(prompt), prompt
        waiting = [other for _, _, other in self.scheduler._waiting]
        self.ahead[number] = {other.id for other in waiting if other.priority >= priority} - {number}

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def remove(self, data):
        number = data.draw(st.sampled_from(sorted(self.texts)))
        assert self.scheduler.remove(number)
        self.forget(number)

    @rule(data=st.data())
    def step(self, data):
        before = set(self.scheduler._by_id) - {running.id for running in self.scheduler._running.values()}
        plan = self.scheduler.schedule()
        self.check_admission(before)
        self.carry_out(plan)
        if plan.sampled and data.draw(st.booleans(), label="remove one before the commit"):
            number = data.draw(st.sampled_from(plan.sampled))
            assert self.scheduler.remove(number)
            self.forget(number)
        tokens = data.draw(
            st.lists(
                st.sampled_from([1, 2, 3, END, STOP]), min_size=len(plan.sampled), max_size=len(plan.sampled)
            )
        )
        expected = [number for number in plan.sampled if number in self.texts]
        committed = self.scheduler.commit(plan, tokens)
        assert [one.sequence for one in committed] == expected
        for one in committed:
            assert one.token == tokens[plan.sampled.index(one.sequence)]
            self.texts[one.sequence].append(one.token)
            if one.finish is not None:
                self.forget(one.sequence)
            else:
                assert one.token not in (END, STOP)
                assert len(self.texts[one.sequence]) < self.LENGTH

    def forget(self, number):
        del self.texts[number], self.ahead[number]

    def check_admission(self, before):
        running = {sequence.id for sequence in self.scheduler._running.values()}
        for number in before & running:
            assert not self.ahead[number] & (before - running)
        if before - running:
            assert len(running) == self.SLOTS

    def carry_out(self, plan):
        assert bool(plan) == bool(self.texts)
        sources, targets = ([getattr(move, end) for move in plan.moves] for end in ("source", "target"))
        assert len({*sources, *targets}) == len(sources) + len(targets)
        for move in plan.moves:
            assert move.length <= len(self.held[move.source])
            self.held[move.target] = self.held[move.source][: move.length]
        budget = self.SHARED_CHUNK if plan.rows else self.CHUNK
        assert sum(len(chunk.tokens) for chunk in plan.chunks) <= budget
        for chunk in plan.chunks:
            prompt = self.prompts[chunk.sequence]
            if chunk.start == 0:
                self.held[chunk.slot] = []
            assert tuple(self.held[chunk.slot]) == prompt[: chunk.start]
            self.held[chunk.slot] += chunk.tokens
            assert tuple(self.held[chunk.slot]) == prompt[: chunk.start + len(chunk.tokens)]
            assert chunk.last == (chunk.start + len(chunk.tokens) == len(prompt))
        for row in plan.rows:
            assert row.past == len(self.held[row.slot])
            self.held[row.slot].append(row.token)
            assert self.held[row.slot] == self.texts[row.sequence]
        self.check_idle(plan)

    def check_idle(self, plan):
        decoded = {row.slot for row in plan.rows}
        assert [row.slot for row in plan.rows] == sorted(decoded)
        highest = max(decoded, default=0)
        idle = dict(plan.idle)
        assert set(idle) == set(range(highest)) - decoded
        by_slot = self.scheduler._running
        added = {chunk.slot: len(chunk.tokens) for chunk in plan.chunks}
        for slot, past in idle.items():
            assert past == by_slot[slot].length + added.get(slot, 0)
            assert past < self.LENGTH

    @invariant()
    def slots_are_shared_by_nobody(self):
        running = self.scheduler._running
        assert all(sequence.slot == slot for slot, sequence in running.items())
        assert all(0 <= slot < self.SLOTS for slot in running)
        assert self.scheduler.busy + self.scheduler.queued == len(self.texts)

    @rule()
    def slots_are_dense_after_a_schedule(self):
        plan = self.scheduler.schedule()
        assert set(self.scheduler._running) == set(range(self.scheduler.busy))
        # A plan that is never carried out would lose its moves: carry them out.
        self.carry_out(plan)
        self.scheduler.commit(plan, [WORD] * len(plan.sampled))
        for number in plan.sampled:
            self.texts[number].append(WORD)
        for number in [number for number in self.texts if number not in self.scheduler._by_id]:
            self.forget(number)


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase
