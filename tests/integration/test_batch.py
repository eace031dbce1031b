"""Many requests in one call, through a whole gateway to fake workers."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from diplex import AsyncClient, Generation, errors
from diplex.v1 import generation_pb2 as pb
from gateway.batch import AT_ONCE
from tests.fakes import Fail, FakeWorker, Hold, Say
from tests.integration.test_gateway import failure, serving


def requests(count, **fields):
    return [pb.GenerateRequest(model="tiny", prompt=f"prompt {i}", **fields) for i in range(count)]


async def results_of(client, *given, **options):
    batch = pb.GenerateBatchRequest(requests=given)
    return {each.index: each async for each in client.generation.GenerateBatch(batch, **options)}


@pytest.fixture
async def worker():
    async with FakeWorker("one") as fake:
        yield fake


async def test_each_request_gets_a_reply_of_its_own(worker):
    async with serving(worker) as (_, client):
        results = await results_of(client, *requests(3 * AT_ONCE))
    assert sorted(results) == list(range(3 * AT_ONCE))
    assert {each.response.choices[0].text for each in results.values()} == {"Hello world"}
    assert {call.request.request.prompt for call in worker.calls} == {
        f"prompt {i}" for i in range(3 * AT_ONCE)
    }
    assert len({call.request_id for call in worker.calls}) == 3 * AT_ONCE


async def test_one_that_fails_disturbs_no_other(worker):
    wrong = pb.GenerateRequest(model="tiny", prompt="x", sampling=pb.SamplingOptions(temperature=-1))
    unknown = pb.GenerateRequest(model="nobody's", prompt="x")
    async with serving(worker) as (_, client):
        results = await results_of(client, wrong, *requests(2), unknown)
    assert [results[i].WhichOneof("result") for i in range(4)] == ["error", "response", "response", "error"]
    assert results[0].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert results[3].error.reason == errors.ModelNotFound.reason


async def test_batches_give_way_unless_they_say_otherwise(worker):
    async with serving(worker) as (_, client):
        await results_of(client, *requests(1), *requests(1, priority=pb.PRIORITY_INTERACTIVE))
    priorities = {call.request.request.priority for call in worker.calls}
    assert priorities == {pb.PRIORITY_BATCH, pb.PRIORITY_INTERACTIVE}


async def test_only_so_many_are_under_way_and_come_as_they_finish(worker):
    gate = asyncio.Event()
    worker.script = [Say("slow"), Hold(gate)]
    async with serving(worker) as (_, client):
        call = client.generation.GenerateBatch(pb.GenerateBatchRequest(requests=requests(AT_ONCE + 1)))
        for _ in range(AT_ONCE):
            await worker.next_call()
        assert len(worker.calls) == AT_ONCE
        worker.script = [Say("quick")]
        gate.set()
        texts = [each.response.choices[0].text async for each in call]
    assert sorted(texts) == ["quick", *["slow"] * AT_ONCE]


async def test_a_full_queue_is_waited_for(worker):
    worker.script = [Fail(errors.QueueFull("full", retry_after=0.01))]
    async with serving(worker) as (_, client):
        call = client.generation.GenerateBatch(pb.GenerateBatchRequest(requests=requests(1)))
        await worker.next_call()
        worker.script = [Say("in the end")]
        (result,) = [each async for each in call]
    assert result.response.choices[0].text == "in the end"


async def test_a_full_queue_is_not_waited_for_beyond_the_deadline(worker):
    worker.script = [Fail(errors.QueueFull("full", retry_after=100.0))]
    async with serving(worker) as (_, client):
        results = await results_of(client, *requests(1), timeout=30)
    assert results[0].error.reason == errors.QueueFull.reason


async def test_all_end_with_the_call(worker):
    worker.script = [Say("x"), Hold(asyncio.Event())]
    async with serving(worker) as (_, client):
        call = client.generation.GenerateBatch(pb.GenerateBatchRequest(requests=requests(3)))
        seen = [await worker.next_call() for _ in range(3)]
        call.cancel()
        await asyncio.gather(*(each.ended.wait() for each in seen))
    assert all(each.cancelled for each in seen)


@pytest.mark.parametrize("count", [0, 4097])
async def test_none_or_too_many_are_refused(worker, count):
    async with serving(worker) as (_, client):
        error = await failure(
            client.generation.GenerateBatch(pb.GenerateBatchRequest(requests=requests(count)))
        )
    assert type(error) is errors.InvalidRequest
    assert [fault.field for fault in error.violations] == ["requests"]


async def test_the_client_gives_answers_and_errors(worker):
    async with serving(worker) as (gateway, _), AsyncClient(gateway.address) as client:
        wrong = pb.GenerateRequest(model="tiny", prompt="x", sampling=pb.SamplingOptions(top_p=7))
        found = {index: result async for index, result in client.batch([*requests(1), wrong, *requests(1)])}
    assert isinstance(found[0], Generation)
    assert found[2].text == "Hello world"
    assert isinstance(found[1], errors.InvalidRequest)
    assert [fault.field for fault in found[1].violations] == ["sampling.top_p"]
