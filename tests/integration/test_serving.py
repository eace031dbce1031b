"""What every server of ours does beside its services: connections, health of models, the operators' port."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
from google.protobuf import json_format
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from diplex.serving import ConnectionConfig, Server, ServerConfig
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc, models_pb2
from tests.fakes import FakeWorker, model
from tests.integration.gateway.serving import serving, until

GENERATION = pb.DESCRIPTOR.services_by_name["GenerationService"]
HEALTH = health_pb2.HealthCheckResponse
REQUEST = pb.GenerateRequest(prompt="hi")


class Peers:
    """Says a word at once and another when it is let; keeps where its callers call from."""

    def __init__(self):
        self.peers = []
        self.gate = asyncio.Event()

    async def generate_stream(self, _, call):
        self.peers.append(call.context.peer())
        yield pb.GenerateStreamResponse(delta=pb.Delta(text="a"))
        await self.gate.wait()
        yield pb.GenerateStreamResponse(delta=pb.Delta(text="b"))


@asynccontextmanager
async def server_of(service, **config):
    server = Server(ServerConfig(listen="127.0.0.1:0", **config), {GENERATION: service})
    address = await server.start()
    try:
        async with grpc.aio.insecure_channel(address) as channel:
            yield server, channel
    finally:
        await server.stop()


async def test_an_old_connection_takes_no_new_calls_and_keeps_its_streams():
    peers = Peers()
    aged = ConnectionConfig(max_age_seconds=0.2)
    async with server_of(peers, connections=aged) as (_, channel):
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        first = stub.GenerateStream(REQUEST, timeout=20)
        await first.read()
        while peers.peers[-1] == peers.peers[0]:  # until the connection is told that it is too old
            later = stub.GenerateStream(REQUEST, timeout=20)
            await later.read()
            later.cancel()
        peers.gate.set()
        assert (await first.read()).delta.text == "b"
        assert await first.read() is grpc.aio.EOF


@pytest.mark.parametrize("wrong", [{"keepalive_seconds": 0}, {"max_age_seconds": -1}])
def test_connections_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="at least"):
        ConnectionConfig(**wrong)


async def test_operators_see_connections_on_a_port_of_their_own(tmp_path):
    admin = f"unix:{tmp_path}/admin.sock"
    async with (
        server_of(Peers(), admin_listen=admin) as (server, channel),
        grpc.aio.insecure_channel(admin) as own,
    ):
        await server.set_serving(serving=True)
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        call = stub.GenerateStream(REQUEST, timeout=20)
        await call.read()
        known = channelz_pb2_grpc.ChannelzStub(own)
        servers = (await known.GetServers(channelz_pb2.GetServersRequest(), timeout=10)).server
        assert sum(it.data.calls_started for it in servers) >= 1
        sockets = [
            socket
            for it in servers
            for socket in (
                await known.GetServerSockets(channelz_pb2.GetServerSocketsRequest(server_id=it.ref.server_id))
            ).socket_ref
        ]
        assert sockets, json_format.MessageToDict(servers[0])
        health = health_pb2_grpc.HealthStub(own)
        assert (await health.Check(health_pb2.HealthCheckRequest(), timeout=10)).status == HEALTH.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channelz_pb2_grpc.ChannelzStub(channel).GetServers(
                channelz_pb2.GetServersRequest(), timeout=10
            )
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        call.cancel()


async def test_probes_find_health_alone_on_a_port_of_their_own(tmp_path):
    probes = f"unix:{tmp_path}/health.sock"
    async with (
        server_of(Peers(), health_listen=probes) as (server, _),
        grpc.aio.insecure_channel(probes) as own,
    ):
        health = health_pb2_grpc.HealthStub(own)

        async def told(name):
            request = health_pb2.HealthCheckRequest(service=name)
            return (await health.Check(request, timeout=10)).status

        assert (await told("liveness"), await told("")) == (HEALTH.SERVING, HEALTH.NOT_SERVING)
        await server.set_serving(serving=True)
        assert await told("") == HEALTH.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await generation_pb2_grpc.GenerationServiceStub(own).Generate(REQUEST, timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_of_models_follows_the_fleet():
    async with (
        FakeWorker(models=[model("one"), model("two", state=models_pb2.MODEL_STATE_UNLOADED)]) as worker,
        serving(worker) as (gateway, client),
    ):
        watch = client.health.Watch(health_pb2.HealthCheckRequest(service="model/one"), timeout=20)
        while (await watch.read()).status != HEALTH.SERVING:
            pass
        two = health_pb2.HealthCheckRequest(service="model/two")
        assert (await client.health.Check(two, timeout=10)).status == HEALTH.NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await client.health.Check(health_pb2.HealthCheckRequest(service="model/three"), timeout=10)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        worker.advertise(model("two"))
        await until(gateway, lambda fleet: fleet.models == {"two": True})
        assert (await watch.read()).status == HEALTH.NOT_SERVING
        watch = client.health.Watch(two, timeout=20)
        while (await watch.read()).status != HEALTH.SERVING:
            pass
        worker.drain()
        assert (await watch.read()).status == HEALTH.NOT_SERVING
