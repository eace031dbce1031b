"""The fake worker does what its script says, over a real connection."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from diplex import errors, status
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from tests.fakes import Admit, Crash, Fail, FakeWorker, Hold, Say, Vanish, model
from tests.worker_events import Events


@pytest.fixture
async def worker():
    async with FakeWorker() as fake:
        yield fake


@pytest.fixture
async def stub(worker):
    async with grpc.aio.insecure_channel(worker.address) as channel:
        yield worker_pb2_grpc.WorkerServiceStub(channel)


def generate(stub, **call):
    request = pb.GenerateRequest(model="tiny", prompt="Hi")
    return Events(stub.Generate(worker_pb2.GenerateRequest(request_id="r1", request=request), **call))


async def kinds(call):
    return [event.WhichOneof("event") async for event in call]


async def test_says_its_script(worker, stub):
    call = generate(stub, timeout=60, metadata=(("x-request-id", "r1"),))
    assert await kinds(call) == ["accepted", "delta", "delta", "finished", "receipt"]
    (seen,) = worker.calls
    assert (seen.request_id, seen.request.request.prompt) == ("r1", "Hi")
    assert 50 < seen.timeout <= 60.1  # gRPC sends it rounded up to tenths of a second
    assert seen.ended.is_set()
    assert not seen.cancelled


async def test_fails_before_it_admits(worker, stub):
    worker.script = [Fail(errors.QueueFull("full"))]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await generate(stub).read()
    assert isinstance(status.from_rpc_error(raised.value), errors.QueueFull)


@pytest.mark.parametrize("before", [Admit(), Say("a")])
async def test_fails_after_it_admitted(worker, stub, before):
    worker.script = [before, Fail(errors.EngineCrashed("gone"))]
    call = generate(stub)
    assert (await call.read()).WhichOneof("event") == "accepted"
    with pytest.raises(grpc.aio.AioRpcError):
        await kinds_by_read(call)


async def kinds_by_read(call):
    while await call.read():
        pass


async def test_vanishes(worker, stub):
    worker.script = [Say("a"), Vanish()]
    assert await kinds(generate(stub)) == ["accepted", "delta"]


async def test_holds_and_records_a_cancellation(worker, stub):
    worker.script = [Hold(asyncio.Event())]
    call = generate(stub)
    seen = await worker.next_call()
    assert not seen.ended.is_set()
    call.cancel()
    await seen.ended.wait()
    assert seen.cancelled


async def test_crashes_and_starts_again_at_its_address(worker, stub):
    worker.script = [Say("a"), Crash()]
    address = worker.address
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await kinds(generate(stub))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await worker.stop()
    worker.script = [Say("b")]
    await worker.start()
    assert worker.address == address
    assert await kinds(generate(stub, wait_for_ready=True)) == ["accepted", "delta", "finished", "receipt"]


async def test_watch_tells_changes(worker, stub):
    watch = stub.Watch(worker_pb2.WatchRequest())
    state = await watch.read()
    assert (state.worker, state.backend, state.draining) == ("fake", pb.BACKEND_ONNX, False)
    assert state.models[0].deployments[0].state == models_pb2.MODEL_STATE_READY
    worker.advertise(model("other", state=models_pb2.MODEL_STATE_FAILED, detail="why"))
    state = await watch.read()
    assert [it.name for it in state.models] == ["other"]
    worker.drain()
    assert (await watch.read()).draining
    watch.cancel()


async def test_counts_words(stub):
    request = worker_pb2.CountTokensRequest(request=pb.CountTokensRequest(prompt="one two three"))
    assert (await stub.CountTokens(request)).response.tokens == 3
