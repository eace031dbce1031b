"""Requests spread over a fleet, conversations that stay, and workers that fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from diplex import errors, status
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.resilience.config import ResilienceConfig
from gateway.routing.config import RoutingConfig
from tests.fakes import Fail, FakeWorker, Hold, Say

HI = pb.GenerateRequest(model="tiny", prompt="Hi")
TURNS = 5


@pytest.fixture
async def three():
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeWorker(name)) for name in ("one", "two", "three")]


@asynccontextmanager
async def serving(*workers, **routing):
    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=tuple(worker.address for worker in workers),
        reconnect_first_seconds=0.02,
        reconnect_most_seconds=0.2,
        routing=RoutingConfig(**routing),
    )
    async with Gateway(config) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        async for fleet in gateway.fleet.snapshots():
            if len(fleet.connected) == len(workers):
                break
        yield generation_pb2_grpc.GenerationServiceStub(channel)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return status.from_rpc_error(raised.value)


def said(role, text):
    return pb.ChatMessage(role=role, parts=[pb.ContentPart(text=text)])


class TestSpread:
    @pytest.mark.parametrize("at_once", [1, 30])
    async def test_300_requests_over_three_workers(self, three, at_once):
        async with serving(*three) as stub:
            seen = Counter()

            async def client():
                for _ in range(300 // at_once):
                    seen[(await stub.Generate(HI)).receipt.worker] += 1

            await asyncio.gather(*(client() for _ in range(at_once)))
        assert seen.total() == 300
        assert all(80 <= seen[worker.name] <= 120 for worker in three)

    async def test_what_runs_counts_before_any_worker_reports_it(self, three):
        gate = asyncio.Event()
        for worker in three:
            worker.script = [Hold(gate)]
        async with serving(*three) as stub:
            calls = [asyncio.ensure_future(stub.Generate(HI)) for _ in range(12)]
            for worker in three:
                for _ in range(3):
                    await worker.next_call()
            gate.set()
            await asyncio.gather(*calls)


class TestAffinity:
    async def test_conversations_stay(self, three):
        async with serving(*three) as stub:

            async def talk(number):
                """The workers that served the turns of one conversation."""
                messages, workers = [], []
                for turn in range(TURNS):
                    messages.append(said(pb.ROLE_USER, f"question {number}.{turn}"))
                    reply = await stub.Generate(
                        pb.GenerateRequest(model="tiny", chat=pb.ChatInput(messages=messages))
                    )
                    messages.append(said(pb.ROLE_ASSISTANT, reply.choices[0].text))
                    workers.append(reply.receipt.worker)
                return workers

            served = await asyncio.gather(*(talk(number) for number in range(12)))
        assert all(len(set(workers)) == 1 for workers in served)
        assert len({workers[0] for workers in served}) == 3

    async def test_they_yield_to_a_full_worker(self, three):
        one, two, _ = three
        gate = asyncio.Event()
        first = [said(pb.ROLE_USER, "Hi")]
        later = [*first, said(pb.ROLE_ASSISTANT, "Hello"), said(pb.ROLE_USER, "Go on")]
        async with serving(one, two) as stub:
            assert (await stub.Generate(chat(first))).receipt.worker == "one"
            assert (await stub.Generate(chat(later))).receipt.worker == "one"
            one.script = [Hold(gate)]
            running = []
            for _ in range(4):  # the fake's slots
                running.append(asyncio.ensure_future(stub.Generate(chat(later))))
                await one.next_call()
            assert (await stub.Generate(chat(later))).receipt.worker == "two"
            gate.set()
            await asyncio.gather(*running)


def chat(messages):
    return pb.GenerateRequest(model="tiny", chat=pb.ChatInput(messages=messages))


class TestEjection:
    async def test_who_fails_gets_nothing_until_a_request_tries_it_again(self, three):
        one, two, _ = three
        one.script = [Say("a"), Fail(errors.EngineCrashed("the engine died"))]
        async with serving(one, two, eject_failures=2, eject_samples=2, eject_first_seconds=0.3) as stub:
            while not (told := await ejected(stub)):
                await asyncio.gather(stub.Generate(HI), stub.Generate(HI), return_exceptions=True)
            assert told.worker == "one"
            assert not told.can_serve
            assert "ENGINE_CRASHED" in told.reason
            calls = len(one.calls)
            assert {(await stub.Generate(HI)).receipt.worker for _ in range(6)} == {"two"}
            assert len(one.calls) == calls
            one.script = [Say("well")]
            while await ejected(stub):
                pass
            assert "one" in {(await stub.Generate(HI)).receipt.worker for _ in range(6)}

    async def test_the_only_one_is_never_ejected(self, three):
        one = three[0]
        one.script = [Fail(errors.EngineCrashed("the engine died"))]
        async with serving(one, eject_failures=1) as stub:
            for _ in range(3):
                assert type(await failure(stub.Generate(HI))) is errors.EngineCrashed
            assert len(one.calls) == 3 * ResilienceConfig().most_losses

    async def test_refusals_are_no_failures(self, three):
        one, two, _ = three
        one.script = [Fail(errors.QueueFull("full"))]
        async with serving(one, two, eject_failures=1) as stub:
            await asyncio.gather(*(stub.Generate(HI) for _ in range(6)), return_exceptions=True)
            assert one.calls
            assert not await ejected(stub)


async def ejected(stub):
    """The candidate that a plan calls ejected."""
    plan = await stub.Plan(HI)
    return next((it for it in plan.candidates if it.reason.startswith("ejected")), None)
