"""Memory is given out in order, and what waits for it goes on when it comes free."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from diplex.errors import InsufficientMemory
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.admission import Admission, own_bytes
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.tenancy import Tenancy
from workers.runtime.supervisor.terms import Terms

GIB = 2**30


class House:
    """Models without engines, under a budget of 10 GiB beside this process."""

    def __init__(self, budget=10):
        self.changes = Changes()
        self.tenants = []
        self.evicted = []
        self.unwanted = []
        self.reasons = []
        total = None if budget is None else own_bytes() + budget * GIB + GIB // 2
        self.admission = Admission(total, lambda: self.tenants, self.evict, self.changes)

    async def evict(self, tenancy):
        self.evicted.append(tenancy.name)
        await asyncio.sleep(0)
        tenancy.reserved = 0

    def tenant(self, name, *, pinned=False, lasting=True):
        tenancy = Tenancy(
            name,
            Terms(EngineConfig(Path()), pinned=pinned, lasting=lasting),
            on_the_way=lambda: False,
            waits=self.reasons.append,
            idle=self.changes.notify,
            unwanted=lambda: self.unwanted.append(name),
        )
        self.tenants.append(tenancy)
        return tenancy

    async def obtain(self, tenancy, size):
        async with asyncio.timeout(10):
            await self.admission.obtain(tenancy, size * GIB)


async def test_without_a_budget_everybody_gets_what_they_ask_for():
    house = House(None)
    a = house.tenant("a")
    await house.obtain(a, 1000)
    assert a.reserved == 1000 * GIB


async def test_the_idle_one_goes():
    house = House()
    a, b, c = (house.tenant(name) for name in "abc")
    await house.obtain(a, 5)
    await house.obtain(b, 5)
    b.touch()
    with a.used():
        await house.obtain(c, 5)
    assert house.evicted == ["b"]
    assert (a.reserved, b.reserved, c.reserved) == (5 * GIB, 0, 5 * GIB)


async def test_what_waits_goes_on_when_a_busy_one_is_idle_and_in_order():
    house = House()
    a, b, c = (house.tenant(name) for name in "abc")
    await house.obtain(a, 8)
    with a.used():
        first = asyncio.create_task(house.obtain(b, 6))
        second = asyncio.create_task(house.obtain(c, 1))
        await asyncio.wait([first, second], timeout=0)
        # What came later waits behind it, small as it is.
        assert house.reasons == [
            "waits for memory until a is idle",
            "waits for memory behind another model",
        ]
    await asyncio.gather(first, second)
    assert house.evicted == ["a"]


async def test_who_is_on_the_way_out_is_waited_for_and_not_evicted():
    house = House()
    a, b = house.tenant("a"), house.tenant("b")
    await house.obtain(a, 8)
    a.leaving = True
    waiting = asyncio.create_task(house.obtain(b, 6))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    house.tenants.remove(a)
    house.changes.notify()
    await waiting
    assert house.evicted == []


async def test_a_wish_that_nobody_shares_any_longer_is_told_of():
    house = House()
    a, b = house.tenant("a"), house.tenant("b", lasting=False)
    await house.obtain(a, 8)
    with a.used():
        with b.used():
            waiting = asyncio.create_task(house.obtain(b, 6))
            await asyncio.wait([waiting], timeout=0)
            assert house.unwanted == []
        assert house.unwanted == ["b"]
        waiting.cancel()
        await asyncio.wait([waiting])
    # The turn is free again.
    await house.obtain(b, 2)


async def test_what_cannot_fit_is_refused_at_once():
    house = House()
    a, b = house.tenant("a", pinned=True), house.tenant("b")
    await house.obtain(a, 8)
    with pytest.raises(InsufficientMemory, match=r"b needs 6144 MiB .* a 8192 MiB \(pinned\)") as raised:
        await house.obtain(b, 6)
    assert raised.value.metadata["needed_bytes"] == str(6 * GIB)
    assert b.reserved == 0
