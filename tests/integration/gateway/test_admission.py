"""Quotas and deadlines over real sockets, in front of fake workers."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from diplex import errors
from diplex.api_key import new_key
from diplex.client import AsyncClient
from gateway.admission.config import AdmissionConfig
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.security.config import SecurityConfig
from tests.fakes import FakeWorker, Hold, Say, model
from tests.integration.gateway.serving import until

ANN = new_key()


@pytest.fixture
async def worker():
    async with FakeWorker("one", models=[model("tiny")]) as fake:
        yield fake


@asynccontextmanager
async def serving(worker, tmp_path, quota="", **admission):
    """A client of a gateway, with a key that has a quota."""
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "ann"\nid = "{ANN.id}"\nsha256 = "{ANN.sha256}"\nquota = {{ {quota} }}\n'
    )
    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=(worker.address,),
        security=SecurityConfig(keys_file=str(keys)),
        admission=AdmissionConfig(**admission),
    )
    async with Gateway(config) as gateway, AsyncClient(gateway.address, api_key=ANN.key) as client:
        await until(gateway, lambda fleet: fleet.connected)
        yield client


class TestQuotas:
    async def test_requests(self, worker, tmp_path):
        async with serving(worker, tmp_path, 'requests = "2/minute"') as client:
            await client.generate("Hi")
            await client.stream("Hi").collect()
            for call in (client.generate("Hi"), client.stream("Hi").collect()):
                with pytest.raises(errors.RateLimited) as raised:
                    await call
        assert 0 < raised.value.retry_after <= 30
        assert [it.description for it in raised.value.exceeded] == ["2 requests a minute"]
        assert raised.value.exceeded[0].subject == "key:ann"
        assert len(worker.calls) == 2

    async def test_tokens_are_settled_by_the_receipt(self, worker, tmp_path):
        # Each answer uses three tokens of prompt and two of text.
        async with serving(worker, tmp_path, 'tokens = "11/day"') as client:
            for _ in range(2):
                await client.generate("Hi", max_tokens=2)
            with pytest.raises(errors.QuotaExceeded) as raised:
                await client.generate("Hi", max_tokens=2)
        assert raised.value.retry_after > 3600

    async def test_what_is_cancelled_is_settled_by_what_came(self, worker, tmp_path):
        worker.script = [Say("a"), Say("b"), Hold(asyncio.Event())]
        async with serving(worker, tmp_path, 'tokens = "25/day"') as client:
            for _ in range(3):
                async with client.stream("Hi", max_tokens=15) as stream:
                    deltas = aiter(stream)
                    assert [(await anext(deltas)).text for _ in range(2)] == ["a", "b"]
                await worker.calls[-1].ended.wait()
            with pytest.raises(errors.QuotaExceeded):
                await client.generate("Hi", max_tokens=15)
        assert len(worker.calls) == 3

    async def test_generations_at_the_same_time(self, worker, tmp_path):
        gate = asyncio.Event()
        worker.script = [Say("a"), Hold(gate)]
        async with serving(worker, tmp_path, "concurrent = 1") as client:
            first = asyncio.create_task(client.generate("Hi"))
            await worker.next_call()
            with pytest.raises(errors.RateLimited, match="1 generations at the same time"):
                await client.generate("Hi")
            gate.set()
            await first
            await client.generate("Hi")

    async def test_a_batch_waits_for_the_rate(self, worker, tmp_path):
        async with serving(worker, tmp_path, 'requests = "2/second"') as client:
            results = [it async for it in client.batch(["Hi"] * 4)]
        assert len(results) == 4
        assert not [it for it in results if isinstance(it.result, errors.DiplexError)]

    async def test_two_gateways_with_one_file_share_a_quota(self, worker, tmp_path):
        file = str(tmp_path / "state")
        quota = 'requests = "3/minute"'
        async with (
            serving(worker, tmp_path, quota, state_file=file) as one,
            serving(worker, tmp_path, quota, state_file=file) as other,
        ):
            for client in (one, other, one):
                await client.generate("Hi")
            for client in (one, other):
                with pytest.raises(errors.RateLimited):
                    await client.generate("Hi")


class TestDeadlines:
    """A worker of four slots, whose generations are said to take a second of prompt and a second a token."""

    @pytest.fixture
    async def slow(self):
        async with FakeWorker("slow", models=[model("tiny")], script=[Say("a"), Say("b")]) as fake:
            fake.timings = (0.0, 1000.0, 2000.0)
            yield fake

    async def test_what_can_not_be_done_in_time_is_refused_at_once(self, slow, tmp_path):
        async with serving(slow, tmp_path) as client:
            await client.generate("Hi", max_tokens=2)
            with pytest.raises(errors.DeadlineExceeded, match="on an idle worker"):
                await client.generate("Hi", max_tokens=2, timeout=1.0)
            await client.generate("Hi", max_tokens=2, timeout=60)
        assert len(slow.calls) == 2

    async def test_what_would_wait_too_long_is_told_when_to_come_back(self, slow, tmp_path):
        async with serving(slow, tmp_path) as client, AsyncExitStack() as stack:
            await client.generate("Hi", max_tokens=2)
            gate = asyncio.Event()
            slow.script = [Say("a"), Hold(gate), Say("b")]
            for _ in range(4):
                stream = await stack.enter_async_context(client.stream("Hi", max_tokens=2))
                assert (await anext(aiter(stream))).text == "a"
            await client_waits(slow, client, stack)
            with pytest.raises(errors.DeadlineUnreachable) as raised:
                await client.generate("Hi", max_tokens=2, timeout=10)
            assert raised.value.retry_after > 0
            assert float(raised.value.metadata["predicted_ms"]) > 10_000
            with pytest.raises(errors.DeadlineUnreachable) as again:
                await client.generate("Hi", max_tokens=2, timeout=10)
            # The same request has its appointment already.
            assert again.value.retry_after < raised.value.retry_after
            with pytest.raises(errors.DeadlineUnreachable) as another:
                await client.generate("Ho", max_tokens=2, timeout=10)
            assert another.value.retry_after > raised.value.retry_after
            gate.set()

    async def test_a_time_limit_that_would_pass_in_the_queue(self, slow, tmp_path):
        async with serving(slow, tmp_path) as client, AsyncExitStack() as stack:
            await client.generate("Hi", max_tokens=2)
            gate = asyncio.Event()
            slow.script = [Say("a"), Hold(gate), Say("b")]
            for _ in range(4):
                stream = await stack.enter_async_context(client.stream("Hi", max_tokens=2))
                await anext(aiter(stream))
            with pytest.raises(errors.DeadlineUnreachable):
                await client.generate("Hi", max_tokens=2, time_limit=0.2)
            gate.set()

    async def test_without_prediction_the_worker_decides(self, slow, tmp_path):
        async with serving(slow, tmp_path, predict=False) as client:
            await client.generate("Hi", max_tokens=2)
            await client.generate("Hi", max_tokens=2, timeout=1.0)


async def client_waits(worker, client, stack):
    """Sixteen further generations that get no slot."""
    worker.script = [Hold(asyncio.Event())]
    for _ in range(16):
        await stack.enter_async_context(client.stream("Hi", max_tokens=2))
        await worker.next_call()
