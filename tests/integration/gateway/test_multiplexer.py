"""Generations that share one call of ``Multiplex`` to their worker, and what must not tell from outside."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import aclosing

import grpc
import pytest

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.fleet.config import DiscoveryConfig
from gateway.fleet.multiplexer import Multiplexer
from gateway.resilience.config import ResilienceConfig
from tests.fakes import Crash, FakeWorker, Hold, Say, two_words
from tests.integration.gateway.serving import HI, Client, drained, failure, serving, until

QUICK = ResilienceConfig(pause_first_seconds=0.01, pause_most_seconds=0.05, wait_seconds=20)
MANY = [Say(f"{number} ".ljust(300)) for number in range(15_000)]
"""More than a worker writes before it hears that nobody reads."""


class Door:
    """Lets everybody in, and counts the RPCs: those of gRPC, whatever they carry."""

    def __init__(self):
        self.opened = 0

    async def __call__(self, call):
        self.opened += 1


class Counting(FakeWorker):
    """Counts, prompt by prompt, what its generations have written."""

    def __init__(self, **options):
        super().__init__(**options)
        self.written = defaultdict(int)

    async def generate(self, request, call):
        async with aclosing(super().generate(request, call)) as responses:
            async for response in responses:
                self.written[request.request.prompt] += 1
                yield response


def asked(prompt):
    return pb.GenerateRequest(model="tiny", prompt=prompt)


def texts(events):
    return [event.delta.text for event in events if event.HasField("delta")]


def said(script):
    return [step.text for step in script if isinstance(step, Say)]


async def begun(client, prompt, **options):
    """A stream that has said its first word."""
    call = client.generation.GenerateStream(asked(prompt), **options)
    while not (await call.read()).HasField("delta"):
        pass
    return call


def carrying():
    """What reads and writes the responses of all calls: a task at the gateway, and one at the worker."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "multiplexed responses"]


async def ended(tasks):
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def door():
    return Door()


@pytest.fixture
async def worker(door):
    async with FakeWorker(guard=door) as fake:
        yield fake


@pytest.fixture
def gates(worker):
    """Prompt -> the gate between the two words of its generation."""
    gates = defaultdict(asyncio.Event)
    worker.script = two_words(gates)
    return gates


async def test_many_streams_share_one_call(worker, door, gates):
    prompts = [f"p{number}." for number in range(32)]
    async with serving(worker) as (_, client):
        before = door.opened
        streams = [client.generation.GenerateStream(asked(prompt)) for prompt in prompts]
        for _ in prompts:
            await worker.next_call()
        assert door.opened == before + 1
        for prompt in reversed(prompts):
            gates[prompt].set()
        answers = await asyncio.gather(*map(drained, streams))
        assert door.opened == before + 1
    assert [texts(events) for events in answers] == [[f"{prompt}1", f"{prompt}2"] for prompt in prompts]
    assert [[event.sequence for event in events] for events in answers] == [[1, 2, 3, 4, 5]] * 32
    assert not any(seen.cancelled for seen in worker.calls)


@pytest.mark.parametrize(("characters", "calls"), [(60_000, 1), (66_000, 3)])
async def test_large_requests_are_sent_alone(worker, door, characters, calls):
    async with serving(worker) as (_, client):
        before = door.opened
        for _ in range(3):
            await client.generation.Generate(asked("x" * characters))
        assert door.opened == before + calls
    assert [len(seen.request.request.prompt) for seen in worker.calls] == [characters] * 3


async def test_workers_that_do_not_multiplex_get_plain_calls(door):
    async with FakeWorker(guard=door, multiplexes=False) as worker, serving(worker) as (_, client):
        before = door.opened
        for _ in range(3):
            assert (await client.generation.Generate(HI)).choices[0].text == "Hello world"
        assert door.opened == before + 3
        assert not carrying()


async def stalled(worker, prompt, other):
    """Waits until a generation that nobody reads is held back, while others of its worker end."""
    before = -1
    while before < worker.written[prompt]:
        before = worker.written[prompt]
        await other()


async def test_who_does_not_read_is_held_back_at_the_worker():
    def script(message):
        return MANY if message.request.prompt == "slow" else [Say("a")]

    async with Counting(script=script) as worker, serving(worker) as (_, client):
        slow = await begun(client, "slow")
        await stalled(worker, "slow", lambda: client.generation.Generate(HI))
        assert worker.written["slow"] < len(MANY)
        assert not worker.calls[0].ended.is_set()
        assert texts(await drained(slow)) == said(MANY)[1:]


async def test_a_deadline_ends_one_call_at_the_worker_too(worker, door, gates):
    async with serving(worker) as (_, client):
        other = await begun(client, "b")
        late = client.generation.GenerateStream(asked("a"), timeout=0.5)
        assert type(await failure(late)) is errors.DeadlineExceeded
        second, first = worker.calls
        await first.ended.wait()
        assert (first.cancelled, second.ended.is_set()) == (True, False)
        assert 0 < first.timeout < 0.6  # gRPC rounds what it sends up
        gates["b"].set()
        assert texts(await drained(other)) == ["b2"]


async def test_a_client_that_goes_ends_one_call_at_the_worker_too(worker, gates):
    async with serving(worker) as (_, client):
        other, gone = await begun(client, "b"), await begun(client, "a")
        gone.cancel()
        second, first = worker.calls
        await first.ended.wait()
        assert (first.cancelled, second.ended.is_set()) == (True, False)
        gates["b"].set()
        assert texts(await drained(other)) == ["b2"]


async def test_a_worker_that_is_back_gets_another_call(worker, door):
    gate = asyncio.Event()
    worker.script = [Say("a"), Hold(gate), Crash()]
    async with serving(worker, resilience=QUICK) as (gateway, client):
        streams = [client.generation.GenerateStream(HI) for _ in range(3)]
        for _ in streams:
            await worker.next_call()
        gate.set()
        await until(gateway, lambda fleet: not fleet.connected)
        await worker.stop()
        worker.script = [Say("a"), Say("b")]
        before = door.opened
        await worker.start()
        assert [texts(await drained(stream)) for stream in streams] == [["a", "b"]] * 3
        assert (await client.generation.Generate(HI)).choices[0].text == "ab"
        assert door.opened == before + 2  # and the watch
        assert len(carrying()) == 2


async def test_a_worker_that_vanishes_leaves_no_task(worker, gates):
    addresses = ["127.0.0.1"]

    async def resolve(_):
        return addresses

    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=(f"workers.test:{worker.address.rpartition(':')[2]}",),
        discovery=DiscoveryConfig(interval_seconds=0.02),
    )
    async with Gateway(config, resolve) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        await until(gateway, lambda fleet: fleet.connected)
        stream = await begun(Client(channel), "a")
        addresses = ["127.0.0.2"]
        await until(gateway, lambda fleet: not fleet.connected)
        tasks = carrying()
        assert len(tasks) == 2
        assert not any(task.done() for task in tasks)
        gates["a"].set()
        assert texts(await drained(stream)) == ["a2"]
        await ended(tasks)
    assert not worker.calls[0].cancelled


async def test_a_gateway_that_closes_leaves_no_task(worker, gates):
    before = asyncio.all_tasks()
    async with serving(worker) as (_, client):
        await begun(client, "a")
        assert len(carrying()) == 2
    left = asyncio.all_tasks() - before
    # The worker's server goes on, and waits for its next call.
    await ended(task for task in left if task.get_coro().__qualname__ != "AioServer._request_call")
    assert worker.calls[0].cancelled


class Closing:
    """Makes calls of a worker, and takes no more while they run; so do links that get new certificates."""

    def __init__(self, channel):
        self._stub = worker_pb2_grpc.WorkerServiceStub(channel)
        self._multiplexer = Multiplexer(self._stub)
        self.closed = None

    def generate(self, prompt):
        request = worker_pb2.GenerateRequest(request=asked(prompt))
        return self._multiplexer.generate(request, timeout=None, metadata=())

    async def close(self):
        """Begins to close; returns when what is sent of that at once has arrived."""
        self.closed = asyncio.create_task(self._multiplexer.close())
        await self._stub.CountTokens(worker_pb2.CountTokensRequest())  # behind that, on the same connection


async def test_what_is_held_back_goes_on_while_it_closes():
    def script(message):
        return MANY if message.request.prompt == "slow" else [Say("a")]

    async with Counting(script=script) as worker, grpc.aio.insecure_channel(worker.address) as channel:
        closing = Closing(channel)
        slow = closing.generate("slow")
        await stalled(worker, "slow", lambda: drained(closing.generate("Hi")))
        await closing.close()
        async with asyncio.timeout(20):
            responses = await drained(slow)
            await closing.closed
    assert [response.kind for response in responses[1:-2]] == [worker_pb2.EVENT_KIND_DELTA] * len(MANY)


async def test_calls_can_be_cancelled_while_it_closes(worker, gates):
    async with grpc.aio.insecure_channel(worker.address) as channel:
        closing = Closing(channel)
        call = closing.generate("a")
        await call.read()
        await closing.close()
        call.cancel()
        async with asyncio.timeout(10):
            await worker.calls[0].ended.wait()
            await closing.closed
    assert worker.calls[0].cancelled
