"""Estimates of the time that is left, by a clock that the test turns."""

import pytest

from workers.runtime.pace import Pace
from workers.runtime.progress import Phase, Progress


class Turned:
    def __init__(self):
        self.now = 100.0
        self.pace = Pace(lambda: self.now)

    def after(self, seconds, done, total=1000, phase=Phase.DOWNLOAD):
        self.now += seconds
        return self.pace.timed(Progress(phase, done, total)).eta


@pytest.fixture
def clock():
    return Turned()


def test_what_is_left_over_the_rate(clock):
    assert clock.after(0, 0) is None
    assert clock.after(1, 100) == pytest.approx(9)
    assert clock.after(1, 200) == pytest.approx(8)
    assert clock.after(0, 1000) == 0


def test_no_estimate_before_anything_has_moved(clock):
    clock.after(0, 50)
    assert clock.after(0.1, 60) is None
    assert clock.after(5, 60) is not None
    assert Turned().after(0, 50) is None


def test_what_was_there_already_is_no_pace(clock):
    clock.after(0, 900)
    assert clock.after(1, 910) == pytest.approx(9)


def test_without_a_total_there_is_none(clock):
    clock.after(0, 0, None)
    assert clock.after(1, 100, None) is None


def test_each_phase_has_its_own_pace(clock):
    clock.after(0, 0)
    clock.after(1, 1000)
    assert clock.after(1, 0, phase=Phase.VERIFY) is None
    assert clock.after(1, 500, phase=Phase.VERIFY) == pytest.approx(1)


def test_another_attempt_begins_anew(clock):
    clock.after(0, 0)
    clock.after(1, 500)
    assert clock.after(1, 0) is None


def test_the_rate_is_that_of_the_last_seconds(clock):
    clock.after(0, 0)
    for _ in range(20):
        clock.after(1, clock.pace._seen[-1][1] + 1)
    for _ in range(11):
        eta = clock.after(1, clock.pace._seen[-1][1] + 50)
    assert eta == pytest.approx((1000 - 20 - 550) / 50)
