"""Circuits: when they open, for how long, and what closes them."""

from __future__ import annotations

import pytest

from gateway.routing.circuit import Circuits, Key
from gateway.routing.config import RoutingConfig

KEY = Key("a:1", "tiny")
CONFIG = RoutingConfig(
    eject_failures=3, eject_error_rate=0.5, eject_samples=4, eject_first_seconds=10, eject_most_seconds=25
)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuits(clock):
    return Circuits(CONFIG, clock)


def fail(circuits, times=1, number=0):
    for _ in range(times):
        circuits.begin(KEY, number)
        circuits.failed(KEY, number, "WORKER_LOST")
        circuits.ended(KEY, number)


def test_opens_at_so_many_failures_in_a_row(circuits):
    fail(circuits, 2)
    assert not circuits.ejected()
    fail(circuits)
    assert circuits.ejected() == {KEY: "for 10 s more: 3 failures in a row (the last: WORKER_LOST)"}


def test_a_success_between_starts_the_row_anew(circuits):
    fail(circuits, 2)
    circuits.succeeded(KEY, 1)
    fail(circuits)
    assert "2 of the last" not in str(circuits.ejected())
    assert circuits.ejected() == {KEY: "for 10 s more: 3 of the last 4 failed (the last: WORKER_LOST)"}


def test_few_failures_among_many_successes_open_nothing(circuits):
    for _ in range(20):
        fail(circuits)
        for _ in range(3):
            circuits.succeeded(KEY, 1)
    assert not circuits.ejected()


def test_other_models_and_workers_stay(circuits):
    fail(circuits, 3)
    assert set(circuits.ejected()) == {KEY}


def test_one_request_tries_it_again_and_closes_it(circuits, clock):
    fail(circuits, 3)
    clock.now += 10
    assert not circuits.ejected()
    circuits.begin(KEY, 7)
    assert circuits.ejected()[KEY].startswith("while one request tries it again")
    circuits.begin(KEY, 8)
    circuits.succeeded(KEY, 8)
    assert circuits.ejected(), "only the one that tries decides"
    circuits.succeeded(KEY, 7)
    assert not circuits.ejected()


def test_who_fails_again_is_out_for_longer_up_to_a_limit(circuits, clock):
    fail(circuits, 3)
    for seconds in (20, 25, 25):
        clock.now += 25
        fail(circuits, number=7)
        assert circuits.ejected()[KEY].startswith(f"for {seconds} s more: tried again and failed")


def test_a_try_that_says_nothing_lets_another_try(circuits, clock):
    fail(circuits, 3)
    clock.now += 10
    circuits.begin(KEY, 7)
    circuits.ended(KEY, 7)
    assert not circuits.ejected()


def test_times_start_small_again_once_it_did_well_for_a_while(circuits, clock):
    fail(circuits, 3)
    clock.now += 10
    circuits.begin(KEY, 7)
    for _ in range(1 + CONFIG.eject_samples):
        circuits.succeeded(KEY, 7)
    fail(circuits, 3)
    assert circuits.ejected()[KEY].startswith("for 10 s more")


def test_forgets_workers_that_are_gone(circuits):
    fail(circuits, 3)
    circuits.forget("a:1")
    assert not circuits.ejected()


def test_times_that_shrink_are_refused():
    with pytest.raises(ValueError, match="less than eject_first_seconds"):
        RoutingConfig(eject_first_seconds=10, eject_most_seconds=1)
