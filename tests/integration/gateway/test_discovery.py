"""Workers that come and go behind a name, which the gateway resolves itself."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from diplex import errors, status
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc
from gateway.application import Gateway
from gateway.config import GatewayConfig
from gateway.fleet.config import DiscoveryConfig
from tests.fakes import FakeWorker, Hold, Say

HI = pb.GenerateRequest(model="tiny", prompt="Hi")


class Names:
    """A name server for one name; counts what it was asked."""

    def __init__(self):
        self.addresses = []
        self.down = False
        self.asked = 0
        self._asked = asyncio.Condition()

    async def __call__(self, host):
        assert host == "workers.test"
        async with self._asked:
            self.asked += 1
            self._asked.notify_all()
        if self.down:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return self.addresses

    async def asked_again(self):
        """Waits until it has answered after now."""
        now = self.asked
        async with self._asked:
            await self._asked.wait_for(lambda: self.asked > now + 1)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("0.0.0.0", 0))  # noqa: S104  # free on every address of the loopback network
        return free.getsockname()[1]


@pytest.fixture
async def replicas(port):
    """Three workers at one port of three addresses."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(FakeWorker(ip, listen=f"{ip}:{port}"))
            for ip in ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        ]


@asynccontextmanager
async def serving(names, port, *, connected):
    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=(f"workers.test:{port}",),
        reconnect_first_seconds=0.02,
        reconnect_most_seconds=0.2,
        discovery=DiscoveryConfig(interval_seconds=0.02),
    )
    async with Gateway(config, names) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        await until(gateway, connected)
        yield gateway, generation_pb2_grpc.GenerationServiceStub(channel)


async def until(gateway, names):
    """Waits until just these workers are part of the fleet, and connected."""
    async for fleet in gateway.fleet.snapshots():
        if {it.name for it in fleet.workers if it.connected} == set(names) and len(fleet.workers) == len(
            names
        ):
            return


async def served_by(stub, requests=12):
    return {(await stub.Generate(HI)).receipt.worker for _ in range(requests)}


async def test_every_address_is_a_worker(replicas, port):
    names = Names()
    names.addresses = [it.name for it in replicas]
    async with serving(names, port, connected=names.addresses) as (gateway, stub):
        assert await served_by(stub) == set(names.addresses)
        assert [it.address for it in gateway.fleet.snapshot.workers] == [it.address for it in replicas]


async def test_new_ones_are_found_while_all_is_well(replicas, port):
    names = Names()
    names.addresses = ["127.0.0.1"]
    async with serving(names, port, connected=names.addresses) as (gateway, stub):
        names.addresses = ["127.0.0.1", "127.0.0.3"]
        await until(gateway, names.addresses)
        assert await served_by(stub) == {"127.0.0.1", "127.0.0.3"}


async def test_vanished_ones_finish_what_they_have(replicas, port):
    names, gate = Names(), asyncio.Event()
    replicas[0].script = [Say("a"), Hold(gate), Say("b")]
    names.addresses = ["127.0.0.1"]
    async with serving(names, port, connected=names.addresses) as (gateway, stub):
        call = stub.GenerateStream(HI)
        for _ in range(2):
            await call.read()
        names.addresses = ["127.0.0.2"]
        await until(gateway, names.addresses)
        assert await served_by(stub, 3) == {"127.0.0.2"}
        gate.set()
        events = [await call.read() for _ in range(3)]
        assert events[0].delta.text == "b"
        assert events[-1].receipt.worker == "127.0.0.1"
        # Its connection is closed behind its last call.
        await asyncio.gather(*(it for it in asyncio.all_tasks() if it.get_name().startswith("retire")))


async def test_one_that_comes_back_serves_again(replicas, port):
    names = Names()
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    async with serving(names, port, connected=names.addresses) as (gateway, stub):
        names.addresses = ["127.0.0.2"]
        await until(gateway, names.addresses)
        names.addresses = ["127.0.0.1", "127.0.0.2"]
        await until(gateway, names.addresses)
        assert await served_by(stub) == set(names.addresses)


@pytest.mark.parametrize("silence", ["down", "empty"])
async def test_the_last_addresses_are_kept_while_the_name_server_is_silent(replicas, port, silence):
    names = Names()
    names.addresses = ["127.0.0.1", "127.0.0.2"]
    async with serving(names, port, connected=names.addresses) as (_, stub):
        if silence == "down":
            names.down = True
        else:
            names.addresses = []
        await names.asked_again()
        assert await served_by(stub) == {"127.0.0.1", "127.0.0.2"}


async def test_a_name_that_never_resolves_leaves_no_worker(port):
    names = Names()
    names.down = True
    async with serving(names, port, connected=[]) as (_, stub):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.Generate(HI)
        assert type(status.from_rpc_error(raised.value)) is errors.NoWorker


async def test_the_operating_systems_resolver(port):
    async with FakeWorker("here", listen=f"127.0.0.1:{port}"):
        config = GatewayConfig(
            listen="127.0.0.1:0",
            workers=(f"dns:///localhost:{port}",),
            discovery=DiscoveryConfig(address_family="ipv4"),
        )
        async with Gateway(config) as gateway:
            await until(gateway, ["here"])
