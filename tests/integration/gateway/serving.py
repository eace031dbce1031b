"""A whole gateway in this process, between a real client and fake workers."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from diplex import status
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc, models_pb2_grpc
from gateway.application import Gateway
from gateway.config import GatewayConfig

HI = pb.GenerateRequest(model="tiny", prompt="Hi")


class Client:
    """All stubs on one channel."""

    def __init__(self, channel):
        self.channel = channel
        self.generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.reflection = reflection_pb2_grpc.ServerReflectionStub(channel)


@asynccontextmanager
async def serving(*workers, **options):
    """A gateway for these workers, once all that are up are connected; yields it and a client."""
    config = GatewayConfig(
        listen="127.0.0.1:0",
        workers=tuple(worker.address for worker in workers),
        reconnect_first_seconds=0.02,
        reconnect_most_seconds=0.2,
        **options,
    )
    up = sum(not worker.address.startswith("unix:") for worker in workers)
    async with Gateway(config) as gateway, grpc.aio.insecure_channel(gateway.address) as channel:
        await until(gateway, lambda fleet: len(fleet.connected) >= up)
        yield gateway, Client(channel)


async def until(gateway, holds):
    """Waits for a state of the fleet."""
    async with aclosing(gateway.fleet.snapshots()) as snapshots:
        async for fleet in snapshots:
            if holds(fleet):
                return


async def failure(call):
    """The error that a call, or the rest of a stream, ends in."""
    ending = call if isinstance(call, grpc.aio.UnaryUnaryCall) else drained(call)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ending
    return status.from_rpc_error(raised.value)


async def drained(call):
    events = []
    while isinstance(event := await call.read(), Message):
        events.append(event)
    return events
