"""Who gets the next slot."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.runtime.engine.sequence import Sequence
from workers.runtime.engine.waiting import WaitingSequences


def sequence(number, *, client="", priority=0, due=0.0):
    return Sequence(number, (1, 2, 3), priority=priority, client=client, due=due)


def serve(waiting, tokens=10):
    """Admits the next one and books its work; its number."""
    chosen = waiting.first()
    waiting.admit(chosen)
    waiting.charge(chosen.client, tokens)
    return chosen.id


def test_nobody_waits():
    assert WaitingSequences().first() is None


def test_priority_then_due_then_arrival():
    waiting = WaitingSequences()
    for number, priority, due in ((1, 0, 5.0), (2, 0, 3.0), (3, 1, 9.0), (4, 0, 3.0)):
        waiting.add(sequence(number, priority=priority, due=due))
    assert [serve(waiting) for _ in range(4)] == [3, 2, 4, 1]
    assert len(waiting) == 0


def test_a_flood_of_one_client_does_not_hold_up_another():
    waiting = WaitingSequences()
    for number in range(20):
        waiting.add(sequence(number, client="flood"))
    for _ in range(3):
        serve(waiting)
    waiting.add(sequence(100, client="small"))
    waiting.add(sequence(101, client="small"))
    order = [serve(waiting) for _ in range(4)]
    # Level at first: who came first goes first; then they take turns.
    assert order in ([3, 100, 4, 101], [100, 3, 101, 4])


def test_nobody_saves_up_service_by_being_idle():
    waiting = WaitingSequences()
    for number in range(40):
        waiting.add(sequence(number, client="busy"))
    for _ in range(20):
        serve(waiting)
    for number in range(100, 120):
        waiting.add(sequence(number, client="idle"))
    first = [serve(waiting) for _ in range(10)]
    assert sum(number >= 100 for number in first) == 5


def test_what_lost_its_slot_goes_first_in_its_class():
    waiting = WaitingSequences()
    waiting.add(sequence(1, priority=1))
    waiting.add(sequence(2))
    waiting.put_back(sequence(3))
    assert [serve(waiting) for _ in range(3)] == [1, 3, 2]


def test_a_removed_one_is_gone():
    waiting = WaitingSequences()
    members = [sequence(number) for number in range(3)]
    for member in members:
        waiting.add(member)
    waiting.remove(members[0])
    waiting.remove(members[0])
    assert len(waiting) == 2
    assert [serve(waiting) for _ in range(2)] == [1, 2]


@given(most=st.integers(1, 8), steps=st.integers(20, 60))
def test_a_low_class_gets_its_turn_under_an_endless_stream_of_a_high_one(most, steps):
    waiting = WaitingSequences(most)
    for number in range(steps):
        waiting.add(sequence(number, priority=0, client="low"))
    served = []
    for number in range(1000, 1000 + steps):
        waiting.add(sequence(number, priority=1, client="high"))
        waiting.add(sequence(number + 1000, priority=1, client="high"))
        served.append(serve(waiting) < 1000)
    low = [i for i, is_low in enumerate(served) if is_low]
    assert low == list(range(most, steps, most + 1))


@settings(deadline=None)
@given(
    sizes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 50)), min_size=60, max_size=120),
)
def test_clients_with_something_waiting_are_served_alike(sizes):
    """Of two clients that both wait all the time, neither gets more than one sequence ahead."""
    waiting = WaitingSequences()
    tokens, left = {}, {"a": 0, "b": 0, "c": 0}
    for number, (client, size) in enumerate(sizes):
        waiting.add(sequence(number, client=client))
        tokens[number] = size
        left[client] += 1
    served = dict.fromkeys(left, 0)
    while all(left.values()):
        chosen = waiting.first()
        waiting.admit(chosen)
        waiting.charge(chosen.client, tokens[chosen.id])
        served[chosen.client] += tokens[chosen.id]
        left[chosen.client] -= 1
        assert max(served.values()) - min(served.values()) <= max(tokens.values())


def test_counters_that_say_nothing_are_dropped():
    waiting = WaitingSequences()
    for number in range(2000):
        waiting.add(sequence(number, client=f"client {number}"))
        serve(waiting, 1)
    assert len(waiting._served) < 1000


def test_a_newcomer_to_an_empty_queue_is_level_with_what_the_last_one_has_had_by_now():
    waiting = WaitingSequences()
    waiting.add(sequence(1, client="first"))
    serve(waiting, 50)
    waiting.add(sequence(2, client="second"))
    waiting.add(sequence(3, client="first"))
    # Both start from the 50 tokens that the first has had since it left the queue.
    assert [serve(waiting) for _ in range(2)] == [2, 3]
    assert waiting._served == {"first": 60, "second": 60}
