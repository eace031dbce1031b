from __future__ import annotations

import asyncio

import pytest

from workers.runtime.engine.messages import Piece
from workers.runtime.generation import Finish, FinishReason, Timings
from workers.runtime.supervisor.beat import UNTOUCHED_STREAMS, Beat
from workers.runtime.supervisor.mailbox import Mailbox

FINISH = Finish(FinishReason.MAX_TOKENS, None, 1, 3, Timings(0, 0, 0))
SELDOM = 1e-3
"""Messages a second: no second beat within a test."""


class Streams:
    """Streams that a beat serves, and what each one's reader has got."""

    def __init__(self, beat, count, *, whole=False):
        self.beat = beat
        self.mailboxes = [Mailbox(whole=whole) for _ in range(count)]

    def step(self, text, *, finish=None):
        for number, mailbox in enumerate(self.mailboxes):
            self.beat.add(mailbox, Piece(number, text, (ord(text),), finish))
        self.beat.step_ended()

    async def got(self):
        """What all readers get now; an empty text for those that have to wait."""
        readers = [asyncio.create_task(mailbox.get()) for mailbox in self.mailboxes]
        await asyncio.wait(readers, timeout=0)
        texts = [reader.result().text if reader.done() else "" for reader in readers]
        for reader in readers:
            reader.cancel()
        return texts


@pytest.mark.parametrize(("rate", "count"), [(SELDOM, 1), (SELDOM, UNTOUCHED_STREAMS), (0, 64)])
async def test_few_streams_get_every_piece_at_once(rate, count):
    streams = Streams(Beat(rate), count)
    for text in "abcd":
        streams.step(text)
        assert await streams.got() == [text] * count


async def test_many_streams_get_their_first_piece_at_once_and_others_on_the_beat():
    beat = Beat(SELDOM)
    streams = Streams(beat, 32)
    streams.step("a")
    assert await streams.got() == ["a"] * 32
    streams.step("b")  # the first beat
    assert await streams.got() == ["b"] * 32
    for text in "cd":
        streams.step(text)
    assert await streams.got() == [""] * 32
    late = Streams(beat, 1)
    late.step("x")
    assert await late.got() == ["x"]
    assert await streams.got() == [""] * 32


async def test_a_last_piece_takes_along_what_was_held():
    streams = Streams(Beat(SELDOM), 32)
    for text in "abcd":
        streams.step(text)
        await streams.got()
    streams.step("e", finish=FINISH)
    for mailbox in streams.mailboxes:
        piece = await asyncio.wait_for(mailbox.get(), 10)
        assert (piece.text, piece.token_ids, piece.finish) == ("cde", tuple(map(ord, "cde")), FINISH)


async def test_what_is_held_comes_without_another_step():
    beat = Beat(1000)
    streams = Streams(beat, 32)
    for text in "abcd":
        streams.step(text)
    texts = [""] * 32
    for number, mailbox in enumerate(streams.mailboxes):
        while texts[number] != "abcd":
            texts[number] += (await asyncio.wait_for(mailbox.get(), 10)).text


async def test_when_streams_end_the_rest_is_served_at_once_again():
    beat = Beat(SELDOM)
    streams = Streams(beat, 32)
    for text in "abc":
        streams.step(text)
        await streams.got()
    assert beat.interval > 1000
    gone = streams.mailboxes[UNTOUCHED_STREAMS:]
    for mailbox in gone:
        beat.leave(mailbox)
    del streams.mailboxes[UNTOUCHED_STREAMS:]
    assert (beat.streams, beat.interval) == (UNTOUCHED_STREAMS, 0)
    streams.step("d")
    assert await streams.got() == ["cd"] * UNTOUCHED_STREAMS


async def test_whole_answers_are_held_to_their_end_and_are_no_streams():
    beat = Beat(0)
    streams = Streams(beat, 2, whole=True)
    for text in "abc":
        streams.step(text)
    assert await streams.got() == [""] * 2
    assert beat.streams == 0
    streams.step("d", finish=FINISH)
    assert await streams.got() == ["abcd"] * 2
    for mailbox in streams.mailboxes:
        beat.leave(mailbox)
    assert beat.streams == 0


async def test_streams_of_one_piece_or_none_are_counted_once():
    beat = Beat(SELDOM)
    streams = Streams(beat, 3)
    beat.leave(streams.mailboxes.pop())
    assert beat.streams == 0
    streams.step("a", finish=FINISH)
    assert beat.streams == 2
    for mailbox in streams.mailboxes:
        beat.leave(mailbox)
    assert beat.streams == 0


@pytest.mark.parametrize(("streams", "seconds"), [(1, 0), (8, 0), (16, 0.08), (32, 0.24)])
async def test_the_interval_grows_with_the_streams(streams, seconds):
    beat = Beat(100)
    beat.streams = streams
    assert beat.interval == pytest.approx(seconds)
