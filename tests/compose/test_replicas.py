"""`--scale onnx-worker=3`: requests spread, a kill loses none, and those that go end what they have."""

from __future__ import annotations

import asyncio

import pytest

from diplex import AsyncClient
from tests.compose.stack import MODEL, eventually, kill, running
from tests.compose.traffic import traffic

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def replicas():
    # With equal shares of the processor: the balancer gives more to those that get more done, and the spread
    # would be the kernel's.
    with running("diplex-scaled", ONNX_WORKER_CPUS="0.4") as stack:
        stack.up("--scale", "onnx-worker=3", "--no-recreate")
        eventually(lambda: stack.healthy("onnx-worker", 3))
        yield stack


async def seen_by_the_gateway(stack, count):
    async with AsyncClient(stack.address()) as client:
        while True:
            candidates = await client.plan("Hello", model=MODEL)
            if len({it.worker for it in candidates if it.can_serve}) == count:
                return
            await asyncio.sleep(0.1)


async def test_load_spreads(replicas):
    await seen_by_the_gateway(replicas, 3)
    async with traffic(replicas.address(), callers=24, tokens=60) as outcome:
        await outcome.more(300)
    assert not outcome.failures
    even = outcome.count / 3
    assert len(outcome.workers) == 3
    assert all(abs(count - even) <= 0.2 * even for count in outcome.workers.values()), outcome.workers


async def test_one_that_is_killed_loses_no_request(replicas):
    await seen_by_the_gateway(replicas, 3)
    async with traffic(replicas.address()) as outcome:
        await outcome.more(6)
        kill(replicas.containers("onnx-worker")[0])
        await outcome.more(12)
    assert not outcome.failures
    # The engine starts it again, and the gateway finds it.
    eventually(lambda: len(replicas.containers("onnx-worker")) == 3)
    await seen_by_the_gateway(replicas, 3)


async def test_scaling_down_drains(replicas):
    async with traffic(replicas.address()) as outcome:
        await outcome.more(6)
        down = ("--scale", "onnx-worker=1", "--no-recreate", "--timeout", "40")
        await asyncio.to_thread(replicas.up, *down)
        await outcome.more(6)
    assert not outcome.failures
    assert len(replicas.containers("onnx-worker")) == 1
    await seen_by_the_gateway(replicas, 1)
