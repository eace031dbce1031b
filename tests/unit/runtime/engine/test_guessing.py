"""Guesses from a sequence's past, and when they pay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.engine.prompt_lookup import LONGEST, SHORTEST, PromptLookup
from workers.runtime.engine.speculation import LENGTHS, Speculation

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


def steps(speculation, count, *, right, cost=0.1, sequence=1):
    """Steps in which all guesses, or none, are right; how many were tried."""
    tried = []
    for _ in range(count):
        drafts = speculation.drafts()
        tried.append(drafts)
        speculation.record(sequence, drafts, drafts * right, 1 + cost * drafts)
    return tried


def test_a_picture_is_never_guessed():
    lookup = PromptLookup()
    assert lookup.drafts([5, 6, -2, -3, 7, 5, 6], 3) == ()
    assert lookup.drafts([5, 6, -2, -3, 7, 5, 6, 8, 5, 6], 1) == (8,)


def test_the_cost_of_a_plain_step_is_known_first():
    assert Speculation().drafts() == 0


def test_right_guesses_are_continued_with_more_of_them():
    tried = steps(Speculation(), 40, right=True)
    assert tried[-1] == LENGTHS[-1]


def test_wrong_guesses_cost_little():
    tried = steps(Speculation(), 2000, right=False)
    assert sum(drafts > 0 for drafts in tried) < 60


def test_guesses_that_cost_as_much_as_steps_are_not_tried_for_long():
    tried = steps(Speculation(), 1000, right=True, cost=1.1)
    assert sum(drafts > 0 for drafts in tried) < 100


def test_a_new_sequence_is_a_new_chance():
    speculation = Speculation()
    steps(speculation, 300, right=False)
    assert any(steps(speculation, 4, right=True, sequence=2))
