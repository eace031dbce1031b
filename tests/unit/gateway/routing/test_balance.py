"""The order among equals: the home, the less loaded of two, and fair turns."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fleet.facts import Backend, Deployment, Precision, State, Worker
from gateway.routing.balance import ordered
from gateway.routing.load import NONE, Ledger, Load, Standing, standing

MEAN = 100.0


def worker(name, *deployments):
    return Worker(name, name, connected=True, draining=False, deployments=deployments)


weights = st.floats(0, 1e6)
standings = st.lists(
    st.builds(
        Standing, address=st.uuids().map(str), weight=weights, free=st.booleans(), turn=st.integers(0, 99)
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda it: it.address,
)


def order(among, homes=(), affinity_yield=2.0, draw=random.random):
    found = ordered(among, homes=homes, affinity_yield=affinity_yield, mean_tokens=MEAN, random=draw)
    return [it.address for it in found]


def at(address, weight=0.0, *, free=True, turn=0):
    return Standing(address, weight, free, turn)


class TestProperties:
    @given(standings, st.randoms(use_true_random=False), st.data())
    def test_everybody_once(self, among, chance, data):
        homes = data.draw(st.sets(st.sampled_from([it.address for it in among])))
        assert sorted(order(among, homes, draw=chance.random)) == sorted(it.address for it in among)

    @given(standings, st.randoms(use_true_random=False))
    def test_the_heaviest_is_never_first_among_several(self, among, chance):
        heaviest = max(among, key=lambda it: (it.weight, it.turn))
        others = [it for it in among if (it.weight, it.turn) != (heaviest.weight, heaviest.turn)]
        assert not others or order([heaviest, *others], draw=chance.random)[0] != heaviest.address

    @given(standings, st.randoms(use_true_random=False), st.data())
    def test_a_home_with_a_free_slot_is_first(self, among, chance, data):
        home = data.draw(st.sampled_from(among))
        among = [replace(it, free=True) if it is home else it for it in among]
        assert order(among, {home.address}, draw=chance.random)[0] == home.address


@pytest.mark.parametrize("seed", range(5))
def test_loads_stay_close_together(seed):
    chance, ledger = random.Random(seed), Ledger()  # noqa: S311  # no secret
    deployment = replace(TestStanding.DEPLOYMENT, slots=1000, busy=0, queued=0, others=0)
    workers = [worker(name, deployment) for name in "abc"]
    for _ in range(300):
        among = [
            standing(it, deployment, ledger.loads.get(it.address, NONE), ledger.mean_tokens) for it in workers
        ]
        ledger.begin(order(among, draw=chance.random)[0], chance.randint(1, 500))
    tokens = [ledger.loads[name].tokens for name in "abc"]
    assert max(tokens) <= 1.1 * min(tokens)


class TestTurns:
    def test_of_equals_the_one_taken_longer_ago(self):
        assert order([at("a", turn=5), at("b", turn=3)]) == ["b", "a"]

    def test_idle_workers_share_what_comes_one_after_the_other(self):
        chance, turns, seen = random.Random(7), Counter(), Counter()  # noqa: S311  # no secret
        for turn in range(1, 301):
            first = order([at(name, turn=turns[name]) for name in "abc"], draw=chance.random)[0]
            turns[first] = turn
            seen[first] += 1
        assert all(80 <= seen[name] <= 120 for name in "abc")


class TestHomes:
    def test_busy_home_yields_to_a_free_slot(self):
        assert order([at("home", 300, free=False), at("other", 200)], {"home"})[0] == "other"

    def test_busy_home_stays_when_nobody_is_free_and_none_far_lighter(self):
        among = [at("home", 290, free=False), at("other", 100, free=False)]
        assert order(among, {"home"})[0] == "home"

    def test_busy_home_yields_to_one_far_lighter(self):
        among = [at("home", 301, free=False), at("other", 100, free=False)]
        assert order(among, {"home"})[0] == "other"

    def test_of_several_homes_the_lightest(self):
        assert order([at("a", 50), at("b", 20), at("c", 0)], {"a", "b"})[0] == "b"


class TestStanding:
    DEPLOYMENT = Deployment(
        model="m",
        aliases=(),
        backend=Backend.ONNX,
        precision=Precision.INT8,
        state=State.READY,
        images=False,
        slots=4,
        busy=3,
        queued=1,
        others=3,
        detail="",
    )

    def stands(self, load, *deployments):
        deployments = deployments or (self.DEPLOYMENT,)
        return standing(worker("a", *deployments), deployments[0], load, MEAN)

    def test_own_tokens_a_slot(self):
        own = replace(self.DEPLOYMENT, others=0)
        assert self.stands(Load(4, 800, 1), own) == Standing("a", 200.0, free=False, turn=1)

    def test_what_others_sent_counts_with_the_mean(self):
        assert self.stands(Load(1, 50, 1)).weight == (50 + 3 * MEAN) / 4

    def test_other_models_of_the_worker_count(self):
        idle = replace(self.DEPLOYMENT, busy=0, queued=0, others=0)
        assert self.stands(NONE, idle, self.DEPLOYMENT).weight == 3 * MEAN / 4

    def test_own_that_are_over_and_still_reported_do_not_count(self):
        late = replace(self.DEPLOYMENT, busy=4, queued=9, others=0)
        assert self.stands(NONE, late) == Standing("a", 0.0, free=True, turn=0)

    def test_what_was_sent_and_is_not_reported_yet_counts(self):
        idle = replace(self.DEPLOYMENT, busy=0, queued=0, others=0)
        assert not self.stands(Load(4, 10, 1), idle).free
        assert self.stands(Load(3, 10, 1), idle).free


class TestLedger:
    def test_books_are_even_in_the_end(self):
        ledger = Ledger()
        ledger.begin("a", 100)
        ledger.begin("a", 50)
        ledger.lower("a", 30)
        assert (ledger.loads["a"].requests, ledger.loads["a"].tokens) == (2, 120)
        ledger.end("a", 70)
        ledger.end("a", 50)
        assert (ledger.loads["a"].requests, ledger.loads["a"].tokens) == (0, 0)

    def test_what_is_gone_is_forgotten_with_its_last_request(self):
        ledger = Ledger()
        ledger.begin("a", 100)
        ledger.forget("a")
        ledger.end("a", 100)
        assert "a" not in ledger.loads
        ledger.begin("b", 1)
        ledger.end("b", 1)
        ledger.forget("b")
        assert "b" not in ledger.loads
