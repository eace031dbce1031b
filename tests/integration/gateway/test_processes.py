"""``--processes``: gateways that share a port, seen from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from diplex import errors
from tests.fakes import FakeWorker, Hold, Say
from tests.integration.gateway.serving import HI, Client, drained, failure

STREAM = "diplex.v1.GenerationService.GenerateStream"


class Gateways:
    """The parent, and what it has logged."""

    def __init__(self, process):
        self.process = process
        self.lines = []

    async def logged(self, event, nth=1):
        """The n-th line of that event."""
        while True:
            found = [entry for entry in self.lines if entry["event"] == event]
            if len(found) >= nth:
                return found[nth - 1]
            line = await self.process.stderr.readline()
            assert line, f"it ended before it logged {event}: {self.lines}"
            self.lines.append(json.loads(line))

    async def ready(self):
        """What the parent says once all listen; their worker is connected then too."""
        await self.logged("worker connected", nth=2)
        return await self.logged("all processes listen")


@asynccontextmanager
async def gateways(worker, *options, count=2):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--listen", "127.0.0.1:0", "--workers", worker.address),
        *("--processes", str(count), "--set", "metrics.listen=127.0.0.1:0", *options),
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield Gateways(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def channel_to(address):
    """A connection of its own, which the kernel gives to any of the processes."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(address, options)


async def scraped(address):
    def read():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:  # our own
            return reply.read().decode()

    families = text_string_to_metric_families(await asyncio.to_thread(read))
    return [sample for family in families for sample in family.samples]


def total(samples, name, **labels):
    return sum(it.value for it in samples if it.name == name and labels.items() <= it.labels.items())


async def test_processes_share_a_port_and_are_counted_as_one():
    async with FakeWorker() as worker, gateways(worker) as both, AsyncExitStack() as channels:
        metrics = (await both.logged("metrics"))["address"]
        ready = await both.ready()
        assert len(set(ready["pids"])) == 2
        for _ in range(12):
            channel = await channels.enter_async_context(channel_to(ready["address"]))
            events = await drained(
                Client(channel).generation.GenerateStream(HI, timeout=20, wait_for_ready=True)
            )
            assert events[-1].HasField("receipt")
        samples = await scraped(metrics)
        assert total(samples, "diplex_requests_total", rpc=STREAM, code="OK") == 12
        assert total(samples, "gen_ai_client_token_usage_sum", gen_ai_request_model="tiny") == 12 * 5
        assert {it.labels["process"] for it in samples if it.name == "diplex_process_resident_bytes"} == {
            "gateway-0",
            "gateway-1",
        }
        both.process.send_signal(signal.SIGTERM)
        assert await both.process.wait() == 0


async def test_a_process_that_dies_is_replaced():
    async with FakeWorker() as worker, gateways(worker) as both:
        ready = await both.ready()
        os.kill(ready["pids"][0], signal.SIGKILL)
        assert (await both.logged("process died"))["code"] == -signal.SIGKILL
        assert (await both.logged("listening", nth=3))["address"] == ready["address"]
        await both.logged("worker connected", nth=3)
        async with channel_to(ready["address"]) as channel:
            call = Client(channel).generation.GenerateStream(HI, timeout=20, wait_for_ready=True)
            assert (await drained(call))[-1].HasField("receipt")


async def test_all_processes_drain():
    worker = FakeWorker(script=[Say("a"), Hold(asyncio.Event())])
    async with worker, gateways(worker, "--drain-seconds", "0.3") as both, AsyncExitStack() as channels:
        ready = await both.ready()
        calls = []
        for _ in range(6):
            channel = await channels.enter_async_context(channel_to(ready["address"]))
            calls.append(Client(channel).generation.GenerateStream(HI, timeout=20, wait_for_ready=True))
            await calls[-1].read()
        both.process.send_signal(signal.SIGTERM)
        assert [type(await failure(call)) for call in calls] == [errors.Draining] * 6
        assert await both.process.wait() == 0


@pytest.mark.parametrize("listen", ["unix:/tmp/never.sock", "taken"])
async def test_addresses_that_processes_cannot_share(listen):
    async with FakeWorker() as worker:
        address = worker.address if listen == "taken" else listen
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "--listen", address, "--processes", "2"),
            stderr=asyncio.subprocess.PIPE,
        )
        _, told = await process.communicate()
    assert process.returncode == 1
    assert json.loads(told.splitlines()[-1])["event"] == "not started"
