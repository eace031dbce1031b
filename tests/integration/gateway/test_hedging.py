"""Whole answers that are late are asked of a second worker."""

from __future__ import annotations

import asyncio

import pytest

from diplex import errors
from gateway.resilience.config import ResilienceConfig
from tests.fakes import Fail, FakeWorker, Hold, Say, model
from tests.integration.gateway.serving import HI, drained, failure, serving

HEDGING = ResilienceConfig(hedge=True, hedge_least_seconds=0.05)
QUICK = [Say("quick")]


@pytest.fixture
async def pair():
    """Two workers of one model; the first one serves, for the second one is busier."""
    async with (
        FakeWorker("one", script=QUICK) as one,
        FakeWorker("two", script=QUICK, models=[model("tiny", busy=3)]) as two,
    ):
        yield one, two


async def learn(client):
    """Lets the gateway see how long answers take."""
    for _ in range(24):
        await client.generation.Generate(HI)


def late(pair, *end):
    """Whoever is asked first is late; returns what lets it go on."""
    gate = asyncio.Event()
    pair[0].script = [Hold(gate), *(end or QUICK)]
    return gate


async def test_the_second_worker_answers(pair):
    async with serving(*pair, resilience=HEDGING) as (_, client):
        await learn(client)
        late(pair)
        pair[1].script = [Say("second")]
        reply = await client.generation.Generate(HI)
        assert reply.choices[0].text == "second"
        assert reply.receipt.attempts == 2
        slow = pair[0].calls[-1]
        await slow.ended.wait()
        assert slow.cancelled
        assert slow.request.request.sampling.seed == reply.receipt.seed


async def test_the_first_worker_may_still_win(pair):
    async with serving(*pair, resilience=HEDGING) as (_, client):
        await learn(client)
        gate = late(pair)
        pair[1].script = [Hold(asyncio.Event())]
        before = len(pair[1].calls)
        call = client.generation.Generate(HI)
        while len(pair[1].calls) == before:
            await pair[1].next_call()
        gate.set()
        assert (await call).choices[0].text == "quick"
        await pair[1].calls[-1].ended.wait()
        assert pair[1].calls[-1].cancelled


async def test_one_that_fails_does_not_end_the_race(pair):
    async with serving(*pair, resilience=HEDGING) as (_, client):
        await learn(client)
        gate = late(pair)
        pair[1].script = [Fail(errors.ContextLengthExceeded("long"))]
        before = len(pair[1].calls)
        call = client.generation.Generate(HI)
        while len(pair[1].calls) == before:
            await pair[1].next_call()
        gate.set()
        assert (await call).choices[0].text == "quick"


async def test_the_client_that_leaves_ends_both(pair):
    async with serving(*pair, resilience=HEDGING) as (_, client):
        await learn(client)
        late(pair)
        pair[1].script = [Hold(asyncio.Event())]
        before = len(pair[1].calls)
        call = client.generation.Generate(HI)
        while len(pair[1].calls) == before:
            await pair[1].next_call()
        call.cancel()
        for worker in pair:
            await worker.calls[-1].ended.wait()
            assert worker.calls[-1].cancelled


async def test_what_both_fail_with_is_told(pair):
    for worker in pair:
        worker.script = [Fail(errors.ContextLengthExceeded("long"))]
    async with serving(*pair, resilience=HEDGING) as (_, client):
        assert type(await failure(client.generation.Generate(HI))) is errors.ContextLengthExceeded


@pytest.mark.parametrize("settings", [ResilienceConfig(), HEDGING], ids=["off", "streams"])
async def test_nothing_else_is_hedged(pair, settings):
    async with serving(*pair, resilience=settings) as (_, client):
        await learn(client)
        gate = late(pair)
        before = len(pair[1].calls)
        ask = client.generation.GenerateStream if settings.hedge else client.generation.Generate
        call = ask(HI)
        asyncio.get_running_loop().call_later(0.3, gate.set)
        await (drained(call) if settings.hedge else call)
        assert len(pair[1].calls) == before
