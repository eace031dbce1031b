"""Which turns go, by the sizes of messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.text.truncation import fitted


def conversation(*messages):
    return [{"role": role, "content": size} for role, size in messages]


def fit(messages, room):
    return fitted(messages, lambda kept: sum(message["content"] for message in kept) <= room)


SYSTEM, ONE, TWO, THREE = ("system", 5), ("user", 3), ("user", 4), ("user", 6)
ANSWER = ("assistant", 2)


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (30, [SYSTEM, ONE, ANSWER, TWO, ANSWER, THREE]),
        (22, [SYSTEM, ONE, ANSWER, TWO, ANSWER, THREE]),
        (21, [SYSTEM, TWO, ANSWER, THREE]),
        (17, [SYSTEM, TWO, ANSWER, THREE]),
        (16, [SYSTEM, THREE]),
        (1, [SYSTEM, THREE]),
    ],
)
def test_the_oldest_turns_go_with_their_answers(room, left):
    messages = conversation(SYSTEM, ONE, ANSWER, TWO, ANSWER, THREE)
    kept, dropped = fit(messages, room)
    assert kept == conversation(*left)
    assert dropped == len(messages) - len(kept)


@pytest.mark.parametrize("messages", [[SYSTEM], [SYSTEM, ONE], [ANSWER, ANSWER], [ONE, ANSWER]])
def test_the_last_turn_stays(messages):
    assert fit(conversation(*messages), 0) == (conversation(*messages), 0)


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "tool"]), st.integers(0, 9)), min_size=1),
    st.integers(0, 60),
)
def test_no_turn_more_goes_than_has_to(messages, room):
    messages = conversation(*messages)
    calls = []
    kept, dropped = fitted(
        messages, lambda some: calls.append(1) or sum(message["content"] for message in some) <= room
    )
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    assert len(calls) <= 2 + len(users).bit_length()
    if not dropped:
        return
    assert kept[-1] == messages[-1]
    before = max(index for index in users if index < users[0] + dropped)
    one_more = [*messages[: users[0]], *messages[before:]]
    assert sum(message["content"] for message in one_more) > room
