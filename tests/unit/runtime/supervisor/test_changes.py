from __future__ import annotations

import asyncio

from workers.runtime.supervisor.changes import Changes


async def test_a_change_that_was_missed_is_seen_at_once():
    changes = Changes()
    seen = changes.count
    changes.notify()
    changes.notify()
    assert await changes.after(seen) == seen + 2


async def test_all_that_wait_are_woken():
    changes = Changes()
    waiting = [asyncio.create_task(changes.after(0)) for _ in range(3)]
    await asyncio.wait(waiting, timeout=0)
    assert not any(task.done() for task in waiting)
    changes.notify()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 10) == [1, 1, 1]


async def test_a_change_is_waited_for_but_once():
    changes = Changes()
    changes.notify()
    waiting = asyncio.create_task(changes.after(1))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    changes.notify()
    assert await asyncio.wait_for(waiting, 10) == 2


async def test_a_change_right_after_a_wake_up_is_not_lost():
    changes = Changes()
    counts = []

    async def watch():
        seen = 0
        while seen < 5:
            seen = await changes.after(seen)
            counts.append(seen)

    watching = asyncio.create_task(watch())
    for _ in range(5):
        await asyncio.wait([watching], timeout=0)
        changes.notify()
    await asyncio.wait_for(watching, 10)
    assert counts[-1] == 5
