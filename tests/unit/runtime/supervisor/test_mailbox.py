from __future__ import annotations

import asyncio

import pytest

from diplex.errors import EngineCrashed
from workers.runtime.engine.messages import Admitted, Piece
from workers.runtime.generation import Finish, FinishReason, Timings
from workers.runtime.supervisor.mailbox import Mailbox

FINISH = Finish(FinishReason.MAX_TOKENS, None, 1, 3, Timings(0, 0, 0))
ADMITTED = Admitted(1, (5,))


async def test_mail_that_waits_is_had_at_once():
    mailbox = Mailbox()
    mailbox.put(ADMITTED)
    assert await mailbox.get() == ADMITTED


async def test_a_reader_that_waits_gets_the_next():
    mailbox = Mailbox()
    reading = asyncio.create_task(mailbox.get())
    await asyncio.wait([reading], timeout=0)
    assert not reading.done()
    mailbox.put(ADMITTED)
    assert await asyncio.wait_for(reading, 10) == ADMITTED


async def test_pieces_that_wait_become_one():
    mailbox = Mailbox()
    for mail in (ADMITTED, Piece(1, "a", (1,)), Piece(1, "", (2,)), Piece(1, "bc", (3,), FINISH)):
        mailbox.put(mail)
    assert await mailbox.get() == ADMITTED
    assert await mailbox.get() == Piece(1, "abc", (1, 2, 3), FINISH)


async def test_a_reader_that_keeps_up_gets_every_piece():
    mailbox = Mailbox()
    got = []
    for text in "abc":
        mailbox.put(Piece(1, text, (1,)))
        got.append((await mailbox.get()).text)
    assert got == ["a", "b", "c"]


async def test_pieces_of_a_whole_answer_wait_for_the_last_one():
    mailbox = Mailbox(whole=True)
    mailbox.put(Piece(1, "a", (1,)))
    reading = asyncio.create_task(mailbox.get())
    await asyncio.wait([reading], timeout=0)
    mailbox.put(Piece(1, "b", (2, 3)))
    await asyncio.wait([reading], timeout=0)
    assert not reading.done()
    mailbox.put(Piece(1, "c", (4,), FINISH))
    assert await asyncio.wait_for(reading, 10) == Piece(1, "abc", (1, 2, 3, 4), FINISH)


async def test_what_waits_is_not_read_along_with_what_came_before():
    mailbox = Mailbox(whole=True)
    mailbox.put(ADMITTED)
    mailbox.put(Piece(1, "a", (1,)))
    assert await mailbox.get() == ADMITTED
    reading = asyncio.create_task(mailbox.get())
    await asyncio.wait([reading], timeout=0)
    assert not reading.done()
    mailbox.put(Piece(1, "b", (2,), FINISH))
    assert await asyncio.wait_for(reading, 10) == Piece(1, "ab", (1, 2), FINISH)


async def test_an_error_comes_behind_what_was_said_before_it():
    mailbox = Mailbox()
    mailbox.put(Piece(1, "a", (1,)))
    mailbox.put(EngineCrashed("gone"))
    assert (await mailbox.get()).text == "a"
    with pytest.raises(EngineCrashed, match="gone"):
        await mailbox.get()


async def test_a_reader_that_was_cancelled_lost_nothing():
    mailbox = Mailbox()
    reading = asyncio.create_task(mailbox.get())
    await asyncio.wait([reading], timeout=0)
    reading.cancel()
    await asyncio.wait([reading])
    mailbox.put(ADMITTED)
    assert await mailbox.get() == ADMITTED


async def test_choices_are_merged_each_for_itself():
    mailbox = Mailbox(whole=True)
    for text, choice in (("a", 0), ("x", 1), ("b", 0), ("y", 1)):
        mailbox.put(Piece(1, text, (1,), choice=choice))
    mailbox.put(Piece(1, "c", (3,), FINISH))
    assert await mailbox.get() == Piece(1, "abc", (1, 1, 3), FINISH)
    assert await mailbox.get() == Piece(1, "xy", (1, 1), choice=1)
    reading = asyncio.create_task(mailbox.get())
    await asyncio.wait([reading], timeout=0)
    assert not reading.done()
    mailbox.put(Piece(1, "z", (2,), FINISH, choice=1))
    assert await asyncio.wait_for(reading, 10) == Piece(1, "z", (2,), FINISH, choice=1)
