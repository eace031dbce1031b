"""The asynchronous client against a gateway on a real socket."""

import asyncio
import gc

import pytest

from diplex import AsyncClient, FinishReason, Health, errors
from diplex.client import ModelState
from diplex.v1 import generation_pb2 as pb
from tests.fake_gateway import MODEL, FakeGateway


@pytest.fixture
async def gateway():
    return FakeGateway()


@pytest.fixture
async def client(gateway):
    async with gateway.serving() as address, AsyncClient(address) as client:
        yield client


async def cancelled(gateway):
    assert await asyncio.to_thread(gateway.cancelled.wait, 10), "the gateway saw no cancellation"
    gateway.cancelled.clear()


async def test_generate_returns_everything(gateway, client):
    generation = await client.generate("hi", token_ids=True, request_id="mine", timeout=30)
    assert generation.text == "Paris is the capital."
    assert generation.token_ids == (1, 2, 3, 4, 5)
    assert generation.finish_reason is FinishReason.STOP
    assert generation.choices[0].stop_match == "\n"
    assert generation.receipt.usage.completion_tokens == 5
    assert generation.receipt.timings.prefill_ms == 12.5
    assert generation.accepted.prompt_tokens == 7
    assert gateway.request_ids == ["mine"]
    assert 25 < gateway.timeouts[0] <= 30.1  # gRPC sends it rounded up to tenths of a second


async def test_stream_gives_deltas_then_the_receipt(client):
    async with client.stream("hi", token_ids=True) as stream:
        with pytest.raises(RuntimeError):
            _ = stream.accepted
        texts = []
        async for delta in stream:
            texts.append(delta.text)
            assert stream.accepted.model == MODEL
            assert stream.text == "".join(texts)
            if len(texts) == 1:
                with pytest.raises(RuntimeError):
                    _ = stream.receipt
    assert texts == ["Paris", " is", " the", " capital", "."]
    assert stream.receipt.seed == 42


async def test_a_collected_stream_equals_the_unary_answer(client):
    unary = await client.generate("hi", token_ids=True, n=2, request_id="same")
    streamed = await client.stream("hi", token_ids=True, n=2, request_id="same").collect()
    assert streamed == unary


async def test_a_protobuf_request_is_the_low_level_door(gateway, client):
    request = pb.GenerateRequest(prompt="x", priority=pb.PRIORITY_BATCH)
    await client.generate(request)
    assert gateway.requests == [request]


async def test_leaving_the_with_cancels(gateway, client):
    gateway.hold_after = 1
    async with client.stream("hi") as stream:
        await anext(stream)
    await cancelled(gateway)


async def test_garbage_collection_cancels(gateway, client):
    gateway.hold_after = 1
    stream = client.stream("hi")
    await anext(stream)
    del stream
    gc.collect()
    await cancelled(gateway)


async def test_reading_a_cancelled_stream_says_so(gateway, client):
    gateway.hold_after = 1
    stream = client.stream("hi")
    await anext(stream)
    stream.cancel()
    with pytest.raises(errors.Cancelled):
        await anext(stream)
    await cancelled(gateway)


async def test_cancelling_the_task_cancels_the_rpc(gateway, client):
    gateway.hold_after = 1
    stream = client.stream("hi")
    await anext(stream)
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)  # lets the task begin to read
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await cancelled(gateway)


async def test_a_status_cancelled_from_the_gateway_is_no_cancellation_of_the_task(gateway, client):
    gateway.error, gateway.error_after = errors.Cancelled("gone"), 1
    with pytest.raises(errors.Cancelled):
        await client.stream("hi").collect()


async def test_deadlines_pass_at_the_client_and_reach_the_gateway(gateway, client):
    gateway.hold_after = 1
    with pytest.raises(errors.DeadlineExceeded, match=r"0\.2 s"):
        await client.stream("hi", timeout=0.2).collect()
    await cancelled(gateway)
    with pytest.raises(errors.DeadlineExceeded):
        await client.generate("hi", timeout=0.2)
    await cancelled(gateway)


async def test_errors_of_the_gateway_come_back_as_they_were(gateway, client):
    gateway.error = errors.QueueFull("16 wait already", retry_after=1.5)
    for call in (client.generate("x"), client.stream("x").collect()):
        with pytest.raises(errors.QueueFull) as caught:
            await call
        assert caught.value.message == "16 wait already"
        assert caught.value.retry_after == 1.5


async def test_an_error_behind_some_deltas_leaves_the_text(gateway, client):
    gateway.error, gateway.error_after = errors.EngineCrashed("it died"), 2
    stream = client.stream("x")
    with pytest.raises(errors.EngineCrashed):
        await stream.collect()
    assert stream.text == "Paris is"


async def test_a_stream_without_a_receipt_is_a_defect(gateway, client):
    gateway.with_receipt = False
    with pytest.raises(errors.InternalError, match="receipt"):
        await client.stream("x").collect()


async def test_too_large_a_request_is_not_sent(gateway, client):
    small = AsyncClient(client.address, max_message_bytes=1000)
    with pytest.raises(errors.MessageTooLarge, match=r"10\d\d bytes .* 1000") as caught:
        await small.generate("x" * 1000)
    assert caught.value.metadata["limit"] == "1000"
    with pytest.raises(errors.MessageTooLarge):
        small.stream("x" * 1000)
    assert gateway.requests == []
    await small.close()


async def test_count_tokens(client):
    count = await client.count_tokens("one two three", system="four", token_ids=True)
    assert (count.tokens, count.token_ids, count.context_length) == (4, (0, 1, 2, 3), 2048)


async def test_models(client):
    models = await client.list_models()
    assert (models.default_model, [each.name for each in models]) == (MODEL, [MODEL, "Broken-7B"])
    deployment = (await client.get_model("fake")).deployments[0]
    assert (deployment.state, deployment.slots, deployment.busy_slots) == (ModelState.READY, 8, 3)
    assert deployment.certificate.kl == 0.0061
    assert models.models[1].deployments[0].certificate is None
    with pytest.raises(errors.ModelNotFound, match="nope"):
        await client.get_model("nope")


async def test_load_and_unload(client):
    seen = []
    model = await client.load_model(MODEL, progress=seen.append)
    assert (model.name, [each.detail for each in seen]) == (MODEL, ["a tensor", "an artefact"])
    await client.unload_model(MODEL)
    with pytest.raises(errors.InsufficientMemory, match="there is no room"):
        await client.load_model("Big-70B")


async def test_health(gateway, client):
    assert await client.health() is Health.SERVING
    assert await client.health("diplex.v1.ModelService") is Health.SERVING
    assert await client.health("nobody") is Health.SERVICE_UNKNOWN
    await gateway.set_serving(serving=False)
    assert await client.health() is Health.NOT_SERVING


async def test_waiting_ends_when_the_gateway_serves(gateway):
    async with gateway.serving(ready=False) as address, AsyncClient(address) as client:
        with pytest.raises(errors.DeadlineExceeded, match="not_serving"):
            await client.wait_until_ready(0.3)
        waiting = asyncio.create_task(client.wait_until_ready(30))
        await gateway.set_serving(serving=True)
        await waiting


async def test_waiting_outlasts_a_gateway_that_comes_later(gateway, tmp_path):
    address = f"unix:{tmp_path}/gw.sock"
    async with AsyncClient(address, patience=0) as client:
        with pytest.raises(errors.Unavailable, match="diplex up"):
            await client.generate("x")
        waiting = asyncio.create_task(client.wait_until_ready(30))
        await asyncio.sleep(0)  # lets it find nobody there
        async with gateway.serving(address):
            await waiting
            assert (await client.generate("x")).text


async def test_a_connection_that_breaks_during_an_answer(gateway, tmp_path):
    gateway.hold_after = 1
    address = f"unix:{tmp_path}/gw.sock"
    async with AsyncClient(address) as client:
        async with gateway.serving(address):
            stream = client.stream("x")
            await anext(stream)
        with pytest.raises(errors.DiplexError) as caught:
            await anext(stream)
        assert isinstance(caught.value, errors.Unavailable | errors.Cancelled)


async def test_a_client_without_calls_closes():
    async with AsyncClient("127.0.0.1:1"):
        pass


async def test_a_client_may_name_itself(gateway, monkeypatch):
    async with gateway.serving() as address:
        for client_id in (None, "given"):
            async with AsyncClient(address, client_id=client_id) as client:
                await client.generate("hi")
        monkeypatch.setenv("DIPLEX_CLIENT", "from the environment")
        async with AsyncClient(address) as client:
            await client.generate("hi")
            await client.stream("hi").collect()
    assert gateway.clients == ["127.0.0.1", "given", "from the environment", "from the environment"]


@pytest.mark.parametrize("name", ["\u00e9", "a\n", "x" * 129])
def test_a_name_that_cannot_travel_is_refused(name):
    with pytest.raises(errors.InvalidRequest, match="client_id"):
        AsyncClient(client_id=name)
