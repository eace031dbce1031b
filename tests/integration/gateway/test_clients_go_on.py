"""Clients whose gateway goes away in the middle: with their defaults, no call fails and no text changes."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager

import pytest

from diplex import AsyncClient, Client, errors
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.resilience.config import ResilienceConfig
from tests.fakes import Fail, FakeWorker, Hold, Say

WORDS = [Say("one "), Say("two "), Say("three "), Say("four")]
TEXT = "one two three four"


@pytest.fixture
def config(tmp_path):
    """Makes the configuration of a gateway, always at the same address and with the same secrets."""
    keys = tmp_path / "keys"
    keys.write_text(secrets.token_hex(32))

    def made(worker, **resilience):
        return GatewayConfig(
            listen=f"unix:{tmp_path}/g.sock",
            workers=(worker.address,),
            reconnect_first_seconds=0.02,
            reconnect_most_seconds=0.2,
            resilience=ResilienceConfig(**{"resumption_keys_file": str(keys)} | resilience),
        )

    return made


@asynccontextmanager
async def running(config):
    async with Gateway(config) as gateway:
        async for fleet in gateway.fleet.snapshots():
            if fleet.connected:
                break
        yield gateway


@pytest.fixture
async def worker():
    async with FakeWorker("one", script=WORDS) as fake:
        yield fake


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_stream_goes_on_at_the_next_gateway(worker, config, count):
    gate = asyncio.Event()
    worker.script = [*WORDS[:count], Hold(gate), *WORDS[count:]]
    settings = config(worker)
    async with AsyncClient(settings.listen) as client:
        async with running(settings):
            stream = client.stream("Hi", token_ids=True)
            begun = [await anext(stream) for _ in range(count)]
            await worker.next_call()
        gate.set()
        async with running(settings):
            generation = await stream.collect()
    assert "".join(delta.text for delta in begun) == "".join(step.text for step in WORDS[:count])
    [choice] = generation.choices
    assert (choice.text, list(choice.token_ids)) == (TEXT, [1, 2, 3, 4])
    assert len(worker.calls) == 2


async def test_a_whole_answer_is_asked_for_again(worker, config):
    worker.script = [Hold(asyncio.Event())]
    settings = config(worker)
    async with AsyncClient(settings.listen) as client:
        async with running(settings):
            answer = asyncio.create_task(client.generate("Hi"))
            await worker.next_call()
        worker.script = WORDS
        async with running(settings):
            assert (await answer).text == TEXT


async def test_the_client_for_threads_goes_on_too(worker, config):
    gate = asyncio.Event()
    worker.script = [*WORDS[:2], Hold(gate), *WORDS[2:]]
    settings = config(worker)

    def read(began):
        with Client(settings.listen) as client, client.stream("Hi") as stream:
            next(stream)
            next(stream)
            loop.call_soon_threadsafe(began.set)
            return stream.collect().text

    loop, began = asyncio.get_running_loop(), asyncio.Event()
    async with running(settings):
        reading = asyncio.create_task(asyncio.to_thread(read, began))
        await began.wait()
    gate.set()
    async with running(settings):
        assert await reading == TEXT


async def test_a_gateway_with_other_secrets_cannot_go_on(worker, config):
    worker.script = [*WORDS[:2], Hold(asyncio.Event())]
    settings = config(worker, resumption_keys_file="")
    async with AsyncClient(settings.listen) as client:
        async with running(settings):
            stream = client.stream("Hi")
            await anext(stream)
        async with running(settings):
            with pytest.raises(errors.Unavailable, match="broke during the answer"):
                await stream.collect()


async def test_patience_ends(worker, config):
    settings = config(worker)
    async with AsyncClient(settings.listen, patience=0.3) as client:
        with pytest.raises(errors.Unavailable, match="no gateway answers"):
            await client.generate("Hi")
        with pytest.raises(errors.Unavailable, match="no gateway answers"):
            await client.stream("Hi").collect()


async def test_the_deadline_holds_for_all_attempts(worker, config):
    settings = config(worker)
    began = asyncio.get_running_loop().time()
    async with AsyncClient(settings.listen) as client:
        with pytest.raises(errors.Unavailable):
            await client.generate("Hi", timeout=0.3)
    assert asyncio.get_running_loop().time() - began < 1


async def test_a_cancelled_stream_is_not_begun_again(worker, config):
    worker.script = [*WORDS[:2], Hold(asyncio.Event())]
    settings = config(worker)
    async with running(settings), AsyncClient(settings.listen) as client:
        stream = client.stream("Hi")
        await anext(stream)
        seen = await worker.next_call()
        stream.cancel()
        with pytest.raises(errors.Cancelled):
            await stream.collect()
        await seen.ended.wait()
        assert seen.cancelled
    assert len(worker.calls) == 1


async def test_what_is_told_to_come_back_later_does(worker, config):
    worker.script = [Fail(errors.Unavailable("not now", retry_after=0.2))]
    settings = config(worker)
    async with running(settings), AsyncClient(settings.listen) as client:
        answer = asyncio.create_task(client.generate("Hi"))
        await worker.next_call()
        worker.script = WORDS
        assert (await answer).text == TEXT


async def test_what_is_refused_for_good_is_not_tried_again(worker, config):
    worker.script = [Fail(errors.QueueFull("full", retry_after=0.1))]
    settings = config(worker)
    async with running(settings), AsyncClient(settings.listen) as client:
        with pytest.raises(errors.QueueFull):
            await client.generate("Hi")
    assert len(worker.calls) == 1


async def test_a_key_is_sent(worker, config):
    settings = config(worker)
    async with running(settings), AsyncClient(settings.listen) as client:
        answers = [await client.generate("Hi", idempotency_key="k") for _ in range(2)]
    assert answers[0] == answers[1]
    assert len(worker.calls) == 1
