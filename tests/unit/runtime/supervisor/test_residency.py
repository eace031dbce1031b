from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.supervisor.residency import (
    Budget,
    Evict,
    Fits,
    Refuse,
    Resident,
    Wait,
    Wanted,
    decide,
    expired,
    next_expiry,
)

MIB = 2**20
BUDGET = Budget(1000, 100)


def resident(name, size, *, busy=False, pinned=False, used=0.0, keep=None):
    return Resident(name, size, busy, pinned, used, keep)


@pytest.mark.parametrize(
    ("residents", "size", "decision"),
    [
        ([], 900, Fits()),
        ([resident("a", 400), resident("b", 200, busy=True)], 300, Fits()),
        ([resident("a", 500, used=2), resident("b", 400, used=1)], 400, Evict(("b",))),
        ([resident("a", 500, used=2), resident("b", 400, used=1)], 500, Evict(("a",))),
        ([resident("a", 500, used=2), resident("b", 400, used=1)], 501, Evict(("b", "a"))),
        ([resident("a", 500, busy=True), resident("b", 400, used=9)], 400, Evict(("b",))),
        ([resident("a", 500, busy=True), resident("b", 400)], 500, Wait(("a",))),
        ([resident("a", 500, pinned=True), resident("b", 400, used=9)], 400, Evict(("b",))),
        ([resident("a", 500, busy=True, pinned=True), resident("b", 400, busy=True)], 400, Wait(("b",))),
        # More than there is already: a model that came out larger than thought.
        ([resident("a", 800), resident("b", 400, used=1)], 0, Evict(("a",))),
    ],
)
def test_who_goes_and_who_stays(residents, size, decision):
    assert decide(BUDGET, residents, Wanted("new", size)) == decision


def test_a_small_one_stays_when_a_larger_one_has_to_go_anyway():
    residents = [resident("small", 100, used=1), resident("large", 700, used=2)]
    assert decide(BUDGET, residents, Wanted("new", 750)) == Evict(("large",))


def test_a_refusal_has_the_numbers_and_says_what_to_do():
    budget = Budget(1000 * MIB, 100 * MIB)
    residents = [resident("a/int8", 500 * MIB, pinned=True), resident("b", 400 * MIB)]
    decision = decide(budget, residents, Wanted("c/fp32", 401 * MIB))
    assert isinstance(decision, Refuse)
    for part in ("c/fp32 needs 401 MiB", "budget of 1000 MiB", "itself 100 MiB", "a/int8 500 MiB (pinned)"):
        assert part in decision.message
    assert "--memory-budget" in decision.message
    assert "b 400" not in decision.message


RESIDENTS = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        size=st.integers(0, 500),
        busy=st.booleans(),
        pinned=st.booleans(),
        last_used=st.floats(0, 100),
        keep_alive=st.none() | st.floats(0, 50),
    ),
    max_size=8,
)
SIZES = st.integers(0, 1500)


@given(RESIDENTS, SIZES)
def test_a_decision_is_sound(residents, size):
    by_name = {each.name: each for each in residents}
    held = sum(each.size for each in residents)
    room = BUDGET.for_models
    decision = decide(BUDGET, residents, Wanted("new", size))
    match decision:
        case Fits():
            assert held + size <= room
        case Evict(names):
            gone = [by_name[name] for name in names]
            assert all(each.evictable for each in gone)
            freed = sum(each.size for each in gone)
            assert held - freed + size <= room
            # No one goes in vain.
            assert all(held - freed + each.size + size > room for each in gone)
            assert [each.last_used for each in gone] == sorted(each.last_used for each in gone)
            # Whoever stays idle and was used longer ago would not have done instead of one that goes, alone.
            for kept in (each for each in residents if each.evictable and each.name not in names):
                assert (
                    not any(kept.last_used < each.last_used and kept.size >= freed for each in gone)
                    or len(gone) > 1
                )
        case Wait(names):
            assert names
            assert all(by_name[name].busy and not by_name[name].pinned for name in names)
            idle = sum(each.size for each in residents if each.evictable)
            waited = sum(by_name[name].size for name in names)
            assert held - idle + size > room >= held - idle - waited + size
        case Refuse():
            assert size + sum(each.size for each in residents if each.pinned) > room


@given(RESIDENTS, SIZES)
def test_following_decisions_ends_with_the_model_loaded_or_refused(residents, size):
    """Waiting is played by everybody becoming idle."""
    for _ in range(len(residents) + 2):
        match decide(BUDGET, residents, Wanted("new", size)):
            case Fits() | Refuse():
                return
            case Evict(names):
                residents = [each for each in residents if each.name not in names]
            case Wait():
                residents = [
                    Resident(each.name, each.size, pinned=each.pinned, last_used=each.last_used)
                    for each in residents
                ]
    raise AssertionError("no end")


@given(RESIDENTS, st.floats(0, 200))
def test_only_idle_models_expire_and_when_their_time_is_over(residents, now):
    gone = expired(residents, now)
    soonest = next_expiry(residents)
    assert bool(gone) == (soonest is not None and soonest <= now)
    for each in residents:
        due = each.keep_alive is not None and each.last_used + each.keep_alive <= now
        assert (each.name in gone) == (due and each.evictable)
