"""Speeds that are learned, lines that are foreseen, and what comes of both."""

from __future__ import annotations

import pytest

from gateway.admission.admission import Visit
from gateway.admission.forecast import Demand, Pool, Server, Stay
from gateway.admission.pace import Errors, Lengths, Pace, Taken
from gateway.admission.queueing import NEVER, Place, Times, Waiting, harms, times


def taken(*, rows, step=0.01, tokens=101, prompt=100, prefill=0.5):
    return Taken(prompt, tokens, prefill, step * (tokens - 1), rows)


def waiting(arrival, seconds, *, due=NEVER, urgency=0, slots=1):
    return Waiting(Place(urgency, due, arrival), seconds, slots)


class TestPace:
    def test_steps_by_rows(self):
        pace = Pace()
        assert not pace.known
        pace.learn(taken(rows=4, step=0.02))
        pace.learn(taken(rows=8, step=0.03))
        assert pace.step(4) == pytest.approx(0.02)
        assert pace.step(6) == pytest.approx(0.025)
        assert pace.step(1) == pytest.approx(0.02)
        assert pace.step(32) == pytest.approx(0.06)
        assert pace.prefill(200) == pytest.approx(1.0)

    def test_prompts_have_a_part_that_does_not_depend_on_their_length(self):
        pace = Pace()
        for tokens in (10, 400, 20, 1000):
            pace.learn(taken(rows=1, prompt=tokens, prefill=0.04 + tokens / 2500))
        assert pace.prefill(700) == pytest.approx(0.32)
        assert pace.prefill(1) == pytest.approx(0.04, rel=0.05)

    def test_short_prompts_say_nothing_of_long_ones(self):
        pace = Pace()
        for tokens in (3, 4, 5, 4, 4):
            pace.learn(taken(rows=1, prompt=tokens, prefill=0.04))
        assert pace.prefill(9000) < 0.2
        pace.learn(taken(rows=1, prompt=9000, prefill=4.0))
        assert pace.prefill(9000) == pytest.approx(4.0, rel=0.02)

    def test_new_measurements_move_it(self):
        pace = Pace()
        for _ in range(50):
            pace.learn(taken(rows=4, step=0.02))
        for _ in range(50):
            pace.learn(taken(rows=4, step=0.04))
        assert pace.step(4) == pytest.approx(0.04, rel=0.01)

    def test_a_single_token_says_nothing_of_steps(self):
        pace = Pace()
        pace.learn(taken(rows=1, tokens=1))
        assert not pace.known


def test_lengths():
    lengths = Lengths()
    assert lengths.quantile(0.9, None) is None
    assert lengths.quantile(0.9, 30) == 30
    for tokens in range(1, 101):
        lengths.learn(tokens)
    assert lengths.quantile(0.5, None) == 51
    assert lengths.quantile(0.9, 1000) == 91
    assert lengths.quantile(0.9, 30) == 30


def test_caution_covers_what_came_later_than_foreseen():
    errors = Errors()
    for _ in range(19):
        errors.learn(1.0, 1.0)
    assert errors.caution == 1.3
    for actual in [1.0] * 71 + [1.5] * 10:
        errors.learn(1.0, actual)
    assert errors.caution == pytest.approx(1.5)
    for _ in range(128):
        errors.learn(1.0, 0.5)
    assert errors.caution == 1.0
    for _ in range(128):
        errors.learn(1.0, 100.0)
    assert errors.caution == 2.0


class TestLine:
    def test_first_free_slot_to_the_first_in_line(self):
        line = [waiting(1, 5.0), waiting(2, 1.0), waiting(3, 1.0, due=9.0), waiting(4, 1.0, urgency=-1)]
        found = {place.arrival: it for place, it in times([2.0, 3.0], line).items()}
        assert found == {
            4: Times(2.0, 3.0),
            3: Times(3.0, 4.0),
            1: Times(3.0, 8.0),
            2: Times(4.0, 5.0),
        }

    def test_choices_take_slots_each(self):
        found = times([0.0, 1.0, 2.0], [waiting(1, 4.0, slots=2), waiting(2, 1.0)])
        assert list(found.values()) == [Times(1.0, 5.0), Times(2.0, 3.0)]

    def test_who_is_harmed(self):
        line = [waiting(1, 1.0, due=2.5), waiting(2, 1.0, due=0.5)]
        before = times([0.0], line)
        assert not harms(before, times([0.0], [*line, waiting(3, 1.0, due=3.0)]), 1.0)
        assert harms(before, times([0.0], [*line, waiting(3, 1.0, due=1.0)]), 1.0)


class TestPool:
    """One worker of two slots; a token takes 10 ms alone, 20 ms beside another; 100 prompt tokens 0.5 s."""

    SERVERS = (Server("a", 2, 0),)

    @pytest.fixture
    def pool(self):
        pool = Pool()
        for rows, step in ((1, 0.01), (2, 0.02)):
            stay = self.stay(0, predicted=None)
            for _ in range(3):
                pool.learn(stay, taken(rows=rows, step=step), 1.0)
        for _ in range(20):
            pool.errors.learn(1.0, 1.0)  # predictions held
        return pool

    def demand(self, deadline=None, max_tokens=100, **more):
        given = {"choices": 1, "priority": 2, "time_limit": None} | more
        return Demand(prompt_tokens=100, max_tokens=max_tokens, deadline=deadline, **given)

    def stay(self, arrival, *, predicted=1.0, began=None, done=0, **more):
        stay = Stay(self.demand(**more), arrival, 0.0, 100, predicted, "a")
        stay.began, stay.done = began, done
        return stay

    def put(self, pool, *stays):
        for stay in stays:
            pool.stays[stay.arrival] = stay

    def test_nothing_is_foreseen_before_anything_was_measured(self):
        assert Pool().forecast(self.demand(), self.SERVERS, 0.0) is None
        assert Pool().forecast(self.demand(), [Server("a", 0, 0)], 0.0) is None

    def test_an_idle_worker(self, pool):
        forecast = pool.forecast(self.demand(), self.SERVERS, 10.0)
        assert forecast.wait == 0
        assert forecast.service == pytest.approx(1.5)
        assert forecast.alone == pytest.approx(1.5)
        assert forecast.throughput == pytest.approx(2 / 2.5)

    def test_a_busy_worker(self, pool):
        self.put(pool, self.stay(1, began=1.0, done=50), self.stay(2, began=1.0, done=75), self.stay(3))
        forecast = pool.forecast(self.demand(), self.SERVERS, 10.0)
        # Slots are free in 0.5 and 1.0 s; the one that waits takes the first for 2.5 s.
        assert forecast.wait == pytest.approx(1.0)
        assert forecast.service == pytest.approx(2.5)
        assert forecast.total == pytest.approx(3.5)

    def test_what_is_due_first_goes_first(self, pool):
        self.put(pool, self.stay(1, began=1.0, done=50), self.stay(2, began=1.0, done=50))
        self.put(pool, self.stay(3, deadline=14.0))
        early = pool.forecast(self.demand(deadline=13.7), self.SERVERS, 10.0)
        assert early.wait == pytest.approx(1.0)
        assert not early.harmful
        self.put(pool, self.stay(4, deadline=14.0))
        assert pool.forecast(self.demand(deadline=13.7), self.SERVERS, 10.0).harmful
        assert not pool.forecast(self.demand(deadline=20.0), self.SERVERS, 10.0).harmful

    def test_what_others_have_there_counts(self, pool):
        forecast = pool.forecast(self.demand(), [Server("a", 2, 3)], 10.0)
        assert forecast.wait == pytest.approx(1.01)

    def test_promised_ones_go_first(self, pool):
        self.put(pool, self.stay(1, began=1.0, done=99), self.stay(2, began=1.0, done=99))
        assert pool.forecast(self.demand(), self.SERVERS, 10.0).wait == pytest.approx(0.02)
        assert pool.forecast(self.demand(), self.SERVERS, 10.0, 2).wait == pytest.approx(2.52)

    def test_a_time_limit_bounds_the_service(self, pool):
        forecast = pool.forecast(self.demand(time_limit=0.7), self.SERVERS, 10.0)
        assert forecast.service == pytest.approx(0.7)

    def test_a_whole_answer_is_followed_by_the_clock(self, pool):
        stay = self.stay(1, predicted=1.0)
        stay.whole, stay.starts, stay.prompt_tokens = True, 10.0, 100
        self.put(pool, stay, self.stay(2, began=1.0, done=0))
        assert pool.forecast(self.demand(), self.SERVERS, 11.5).wait == pytest.approx(1.0)
        assert pool.guess_done(stay, 11.5) == 50

    def test_what_ended_without_an_answer_counts_if_it_was_late(self, pool):
        stay = self.stay(1, predicted=1.0)
        visit = Visit(pool, stay, {})
        visit.ended(stay.since + 0.5)
        assert pool.errors.caution == 1.0
        for _ in range(3):
            visit.ended(stay.since + 1.8)
        assert pool.errors.caution == pytest.approx(1.8)
