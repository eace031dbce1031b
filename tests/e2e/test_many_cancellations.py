"""Thousands of calls that are cancelled at any moment: afterwards everything is as it was before."""

from __future__ import annotations

import asyncio
import random

import psutil
import pytest

from diplex import AsyncClient, errors
from tests.e2e import services
from tests.e2e.replicas import asks, replicas

AT_ONCE = 50


def test_cancelled_calls_leave_nothing_behind(tiny_home, tiny_catalogue, tmp_path, figure):
    cancelled(tiny_home, tiny_catalogue, tmp_path, figure, calls=600)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_five_thousand_cancelled_calls_leave_nothing_behind(tiny_home, tiny_catalogue, tmp_path, figure):
    cancelled(tiny_home, tiny_catalogue, tmp_path, figure, calls=5000)


def cancelled(home, catalogue, folder, figure, *, calls):
    """So many calls, streamed and whole, with and without a key, each cancelled within 0.3 s."""
    addresses = [f"unix:{folder}/w{index}.sock" for index in range(2)]
    env = services.environment(DIPLEX_RESILIENCE_LINGER_SECONDS="0.2")
    with (
        replicas(addresses, home, catalogue) as workers,
        services.gateway(",".join(addresses), env=env) as gateway,
    ):
        for nth in (1, 2):
            gateway.entry("worker connected", nth=nth)
        processes = {"gateway": gateway.pid, "worker": workers.workers[0].pid}
        asyncio.run(cancel(gateway.address, calls // 5, seed=1))  # what grows once has grown then
        asyncio.run(until_idle(gateway.address))
        before = {name: taken_by(pid) for name, pid in processes.items()}
        ended = asyncio.run(cancel(gateway.address, calls, seed=2))
        asyncio.run(until_idle(gateway.address))
        after = {name: taken_by(pid) for name, pid in processes.items()}
    for name in processes:
        figure(f"{calls} cancelled calls, {name} before and after", f"{before[name]} -> {after[name]}")
    figure("ended by", ", ".join(f"{count} {how}" for how, count in sorted(ended.items())))
    assert ended.get("cancelled", 0) > calls // 2
    assert set(ended) <= {"cancelled", "complete", "QueueFull", "DeadlineUnreachable"}
    for name in processes:
        assert after[name]["files"] <= before[name]["files"] + 5
        assert after[name]["threads"] <= before[name]["threads"] + 2
        assert after[name]["MiB"] <= before[name]["MiB"] + 24


def taken_by(pid):
    process = psutil.Process(pid)
    with process.oneshot():
        return {
            "files": process.num_fds(),
            "threads": process.num_threads(),
            "MiB": process.memory_info().rss // 2**20,
        }


async def cancel(address, calls, *, seed):
    """How the calls ended, and how many of each."""
    chance, asked = random.Random(seed), asks(16, 300)  # noqa: S311  # no secret
    ended: dict[str, int] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number, client):
        ask = asked[number % len(asked)]
        key = {"idempotency_key": f"{seed}-{number}"} if number % 3 == 0 else {}
        whole = number % 2 == 0
        call = asyncio.create_task(
            client.generate(ask.raw, max_tokens=ask.tokens, **ask.options, **key)
            if whole
            else ask.stream(client, **key).collect()
        )
        async with gate:
            await asyncio.sleep(chance.uniform(0, 0.3))  # the random moment itself
            call.cancel()
            try:
                await call
                how = "complete"
            except asyncio.CancelledError:
                how = "cancelled"
            except errors.DiplexError as error:
                how = type(error).__name__
            ended[how] = ended.get(how, 0) + 1

    async with AsyncClient(address) as client:
        for start in range(0, calls, AT_ONCE):
            await asyncio.gather(*(one(start + number, client) for number in range(AT_ONCE)))
    return ended


async def until_idle(address):
    """Waits until no slot of any worker is busy and nothing waits."""
    async with AsyncClient(address) as client, asyncio.timeout(30):
        while True:
            models = await client.list_models()
            loads = [it for model in models for it in model.deployments]
            if not any(it.busy_slots or it.queued for it in loads):
                return
            await asyncio.sleep(0.05)
