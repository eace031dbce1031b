"""Guesses from a sequence's past, and when they pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.engine.prompt_lookup import LONGEST, SHORTEST, PromptLookup
from workers.runtime.engine.speculation import LENGTHS, MOST_TOKENS, Speculation, StepCosts

TOKENS = st.lists(st.integers(0, 3) | st.sampled_from([2**16, 2**24, 2**31 - 1]), max_size=60)


def by_hand(tokens, most):
    for size in range(LONGEST, SHORTEST - 1, -1):
        if size >= len(tokens):
            continue
        for place in range(len(tokens) - size - 1, -1, -1):
            if tokens[place : place + size] == tokens[-size:]:
                follows = tokens[place + size :]
                return tuple((follows * most)[:most])
    return ()


@given(tokens=TOKENS, more=TOKENS, most=st.integers(1, 8))
def test_what_followed_the_latest_occurrence_of_the_longest_end(tokens, more, most):
    lookup = PromptLookup()
    assert lookup.drafts(tokens, most) == by_hand(tokens, most)
    assert lookup.drafts(tokens + more, most) == by_hand(tokens + more, most)


def test_a_text_that_repeats_itself_is_continued():
    assert PromptLookup().drafts([1, 2, 3, 1, 2, 3, 1, 2], 7) == (3, 1, 2, 3, 1, 2, 3)


def steps(speculation, count, *, right, cost=0.1, rows=(1,), found=8):
    """Steps in which all guesses of a row, or none, are right; how many were tried."""
    tried = []
    for _ in range(count):
        most = speculation.most(len(rows))
        drafts = min(speculation.choose(dict.fromkeys(rows, min(most, found))), found) if most else 0
        tried.append(drafts)
        results = {row: (drafts, drafts * (right is True or row in right)) for row in rows}
        speculation.record(results, 1 + cost * len(rows) * (1 + drafts))
    return tried


def test_a_picture_is_never_guessed():
    lookup = PromptLookup()
    assert lookup.drafts([5, 6, -2, -3, 7, 5, 6], 3) == ()
    assert lookup.drafts([5, 6, -2, -3, 7, 5, 6, 8, 5, 6], 1) == (8,)


NONE = ()


def test_the_cost_of_a_plain_step_is_known_first():
    speculation = Speculation()
    assert speculation.most(1) == 0
    speculation.record({1: (0, 0)}, 1.0)
    assert speculation.most(1) == LENGTHS[-1]
    assert speculation.most(2) == 0


def test_right_guesses_are_continued_with_more_of_them():
    assert steps(Speculation(), 40, right=True)[-1] == LENGTHS[-1]


def test_wrong_guesses_cost_little():
    tried = steps(Speculation(), 2000, right=NONE)
    assert sum(drafts > 0 for drafts in tried) < 60


def test_guesses_that_cost_as_much_as_steps_are_not_tried_for_long():
    tried = steps(Speculation(), 1000, right=True, cost=10.0)
    assert 0 < sum(drafts > 0 for drafts in tried) < 100


def test_a_new_sequence_is_a_new_chance():
    speculation = Speculation()
    steps(speculation, 300, right=NONE)
    assert any(steps(speculation, 4, right=True, rows=(2,)))


def test_rows_that_are_lucky_outweigh_the_others_where_a_token_costs_little():
    rows = range(8)
    assert steps(Speculation(), 60, right=range(6), cost=0.01, rows=rows)[-1] > 0
    tried = steps(Speculation(), 400, right=range(2), cost=0.2, rows=rows)
    assert sum(drafts > 0 for drafts in tried) < 60


def test_guesses_are_not_looked_for_in_every_step_of_many_rows_that_have_none():
    speculation, looked = Speculation(), 0
    for _ in range(100):
        if speculation.most(16):
            looked += 1
            assert speculation.choose(dict.fromkeys(range(16), 0)) == 0
        speculation.record(dict.fromkeys(range(16), (0, 0)), 1.0)
    assert 10 < looked < 30


def test_no_run_takes_in_more_than_pays():
    for rows in range(1, 100):
        speculation = Speculation()
        speculation.record(dict.fromkeys(range(rows), (0, 0)), 1.0)
        assert rows * (1 + speculation.most(rows)) <= max(MOST_TOKENS, rows)


@given(known=st.dictionaries(st.integers(1, 64), st.floats(0.1, 10), min_size=1), tokens=st.integers(1, 64))
def test_a_cost_lies_between_what_fewer_and_more_tokens_take(known, tokens):
    costs = StepCosts()
    for number, seconds in known.items():
        costs.record(number, seconds)
    fewer = [number for number in known if number <= tokens]
    more = [number for number in known if number >= tokens]
    if not fewer:
        with pytest.raises(ValueError, match="empty"):
            costs.seconds(tokens)
        return
    seconds = costs.seconds(tokens)
    if tokens in known:
        assert seconds == known[tokens]
    elif more:
        bounds = sorted((known[max(fewer)], known[min(more)]))
        assert bounds[0] - 1e-9 <= seconds <= bounds[1] + 1e-9
    else:
        assert seconds >= known[max(fewer)]


def test_costs_are_forgotten_in_time():
    costs = StepCosts()
    costs.record(2, 1.0)
    for _ in range(300):
        costs.record(1, 1.0)
    assert 1 in costs
    assert 2 not in costs
