from __future__ import annotations

import pytest

from workers.runtime.engine.beat import UNTOUCHED_STREAMS, Beat
from workers.runtime.engine.messages import Load, Piece, Stepped
from workers.runtime.generation import Finish, FinishReason, Timings

FINISH = Finish(FinishReason.MAX_TOKENS, None, 1, 3, Timings(0, 0, 0))
SELDOM = 1.0
"""Messages a second: with 32 sequences a beat every 24 seconds."""


class Steps:
    """Steps of a number of sequences, a second each, and what was sent behind each of them."""

    def __init__(self, rate, count):
        self.now = 0.0
        self.count = count
        self.sent = []
        self.beat = Beat(self.sent.append, lambda: self.now, rate)

    def step(self, text, *, finish=(), begun=()):
        """What is sent of a step that adds a text to each sequence: id of a request -> text."""
        pieces = [
            Piece(number, text, (ord(text),), FINISH if number in finish else None)
            for number in range(self.count)
        ]
        first = [(number, 0) for number in begun]
        return self.told(lambda: self.beat.step(pieces, self.load(), self.count, first))

    def told(self, does):
        self.now += 1
        before = len(self.sent)
        does()
        return {piece.id: piece.text for message in self.sent[before:] for piece in message.pieces}

    def load(self, queued=0):
        return Load(40, queued, 0.0, 0.0)

    def all(self, text):
        return dict.fromkeys(range(self.count), text)


@pytest.mark.parametrize(("rate", "count"), [(SELDOM, 1), (SELDOM, UNTOUCHED_STREAMS), (0, 64)])
def test_few_sequences_are_told_of_at_once(rate, count):
    steps = Steps(rate, count)
    for text in "abcd":
        assert steps.step(text) == steps.all(text)


def test_many_are_told_of_on_the_beat():
    steps = Steps(SELDOM, 32)
    assert steps.step("a") == steps.all("a")
    for text in "b" * 23:
        assert steps.step(text) == {}
    assert steps.step("c") == steps.all("b" * 23 + "c")
    assert len(steps.sent) == 2


def test_it_beats_with_the_nearest_step():
    steps = Steps(0.75, 9)  # a beat every 1.33 seconds
    for text in "abc":
        assert steps.step(text) == steps.all(text)
    steps = Steps(0.6, 9)  # every 1.67
    assert [bool(steps.step(text)) for text in "abcde"] == [True, False, True, False, True]


def test_what_begins_or_ends_is_told_at_once_with_what_is_held_of_it():
    steps = Steps(SELDOM, 32)
    steps.step("a")
    assert steps.step("b") == {}
    assert steps.step("c", finish=[3], begun=[5]) == {3: "bc", 5: "bc"}
    last = steps.sent[-1].pieces[0]
    assert (last.token_ids, last.finish) == (tuple(map(ord, "bc")), FINISH)
    assert steps.told(steps.beat.flush) == {number: "bc" for number in range(32) if number not in {3, 5}}


def test_choices_of_one_request_are_told_apart():
    steps = Steps(SELDOM, 32)
    steps.step("a")
    for text in "bc":
        steps.beat.step([Piece(1, text, (), None, choice) for choice in range(2)], steps.load(), 32)
    steps.beat.step([Piece(1, "d", (), FINISH, 1)], steps.load(), 32)
    assert [(piece.choice, piece.text) for piece in steps.sent[-1].pieces] == [(1, "bcd")]
    steps.beat.flush(1)
    assert [(piece.choice, piece.text) for piece in steps.sent[-1].pieces] == [(0, "bc")]


def test_one_request_can_be_told_of_alone():
    steps = Steps(SELDOM, 32)
    steps.step("a")
    steps.step("b")
    assert steps.told(lambda: steps.beat.flush(7)) == {7: "b"}
    assert steps.told(lambda: steps.beat.flush(7)) == {}


def test_when_sequences_end_the_rest_is_told_of_at_once_again():
    steps = Steps(SELDOM, 32)
    steps.step("a")
    steps.step("b")
    steps.count = UNTOUCHED_STREAMS
    assert steps.step("c") == {number: "bc" if number < steps.count else "b" for number in range(32)}
    assert steps.step("d") == steps.all("d")


def test_load_is_told_when_it_has_changed():
    steps = Steps(SELDOM, 32)
    for queued in (1, 1, 2):
        steps.beat.step((), steps.load(queued), 32)
    assert steps.sent == [Stepped((), steps.load(1)), Stepped((), steps.load(2))]


@pytest.mark.parametrize(("sequences", "seconds"), [(1, 0), (8, 0), (16, 0.08), (32, 0.24)])
def test_the_interval_grows_with_the_sequences(sequences, seconds):
    assert Steps(100, 1).beat.interval(sequences) == pytest.approx(seconds)
