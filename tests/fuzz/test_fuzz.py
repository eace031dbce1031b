"""What nobody should send: the gateway and its worker refuse it with an error that says why, and go on.

``make fuzz`` sends 20,000 requests, the default suite some hundred. They follow from a seed, which
``DIPLEX_FUZZ_SEED`` changes.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import grpc
import psutil
import pytest
from grpc_status import rpc_status

from diplex import status
from diplex.errors import DiplexError
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from tests.e2e import services
from tests.fuzz import wire
from tests.fuzz.messages import MODEL, Messages

SEED = int(os.environ.get("DIPLEX_FUZZ_SEED", "20260"))
AT_ONCE = 16
SECONDS = 60
"""Deadline of a call; nothing that is asked for takes so long."""

GENERATION = pb.DESCRIPTOR.services_by_name["GenerationService"]
MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
METHODS = [*GENERATION.methods, *MODELS.methods]
WEIGHTS = [
    {"GenerateStream": 40, "Generate": 20, "CountTokens": 10, "Plan": 10}.get(it.name, 2) for it in METHODS
]

NEVER = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
PASSING = {"UNAVAILABLE", "MODEL_LOADING"}
"""Reasons of UNAVAILABLE while a model is loaded again, which one of the requests has unloaded."""

NORMAL = pb.GenerateRequest(
    model=MODEL,
    prompt="Once upon a time",
    sampling=pb.SamplingOptions(temperature=0),
    stopping=pb.StoppingOptions(max_tokens=4),
)


@pytest.fixture(scope="module")
def stack(tiny_home, tiny_catalogue, tmp_path_factory):
    own = ("--home", tiny_home, "--catalogue", tiny_catalogue, "--model", f"{MODEL}/fp32", "--threads", "1")
    with services.stack(
        tmp_path_factory.mktemp("fuzz"), *own, "--max-length", "96", "--max-queue", "64"
    ) as both:
        yield both


class Fuzz:
    """Sends requests and judges what comes back."""

    def __init__(self, address, seed):
        self.chance = random.Random(seed)  # noqa: S311  # no secret
        self.messages = Messages(self.chance)
        self.address = address
        self.codes = Counter()
        self.faults = []

    async def run(self, requests):
        todo = iter(range(requests))
        async with grpc.aio.insecure_channel(self.address) as channel:

            async def client():
                for _ in todo:
                    await self.one(channel)

            await asyncio.gather(*(client() for _ in range(AT_ONCE)))

    async def one(self, channel):
        [method] = self.chance.choices(METHODS, WEIGHTS)
        request = self.messages.request(method.input_type)
        data = self.messages.bytes_of(request)
        timeout = self.chance.choice((0.001, 0.02, 0.2)) if self.chance.random() < 0.03 else SECONDS
        path = f"/{method.containing_service.full_name}/{method.name}"
        call = channel.unary_stream(path)(data, timeout=timeout)  # which a unary method is too
        leaves = self.chance.random() < 0.03
        try:
            async with asyncio.timeout(SECONDS + 10):
                while (reply := await call.read()) is not grpc.aio.EOF:
                    self.judge_reply(method, reply, request)
                    if leaves:
                        break
            call.cancel()
            self.codes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.judge(error, timeout, method, request)
        except TimeoutError:
            self.faults.append(("hangs", method.name, str(request)[:2000]))

    def judge_reply(self, method, reply, request):
        if method.name == "GenerateBatch":
            error = pb.GenerateBatchResponse.FromString(reply).error
            if error.code in {code.value[0] for code in NEVER}:
                self.faults.append((error.reason, error.message, str(request)[:2000]))

    def judge(self, error, timeout, method, request):
        code = error.code()
        self.codes[code.name] += 1
        known = status.from_rpc_error(error)
        passing = code is grpc.StatusCode.UNAVAILABLE and known.reason not in PASSING
        hangs = code is grpc.StatusCode.DEADLINE_EXCEEDED and timeout == SECONDS
        if code in NEVER or passing or hangs or type(known) is DiplexError:
            self.faults.append((code.name, known.reason, error.details(), method.name, str(request)[:2000]))
        elif rpc_status.from_call(error) is None and code not in (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ):
            self.faults.append(("no details", code.name, error.details(), method.name))


def check_alive(stack, processes):
    """A normal request is served as before, by the processes that were there before."""
    with services.channel_to(stack.address) as channel:
        reply = channel.unary_unary("/diplex.v1.GenerationService/Generate")(
            NORMAL.SerializeToString(), timeout=SECONDS, wait_for_ready=True
        )
    response = pb.GenerateResponse.FromString(reply)
    assert response.receipt.usage.completion_tokens == 4
    assert {stack.gateway.pid, stack.worker.pid} == processes
    assert all(psutil.Process(pid).is_running() for pid in processes)
    assert '"event": "defect"' not in stack.gateway.log
    assert '"event": "defect"' not in stack.worker.log


@pytest.fixture
def processes(stack):
    return {stack.gateway.pid, stack.worker.pid}


@pytest.mark.parametrize(
    "requests", [300, pytest.param(20_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_requests_made_from_the_protos(stack, processes, requests):
    fuzz = Fuzz(stack.address, SEED)
    asyncio.run(fuzz.run(requests))
    assert not fuzz.faults, f"{len(fuzz.faults)} of {requests}, the first: {fuzz.faults[:3]}"
    assert fuzz.codes.total() == requests
    assert fuzz.codes["OK"] > requests / 10, fuzz.codes
    assert fuzz.codes["INVALID_ARGUMENT"] > requests / 10, fuzz.codes
    check_alive(stack, processes)


@pytest.mark.parametrize(
    "connections", [40, pytest.param(2000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_bytes_on_the_port(stack, processes, connections):
    chance = random.Random(SEED)  # noqa: S311  # no secret
    for data in wire.FIXED:
        wire.send(stack.address, data)
    for _ in range(connections):
        wire.send(stack.address, wire.broken(chance))
    check_alive(stack, processes)


def test_a_path_that_is_no_text(stack, processes):
    """It crashes gRPC's server, which is opened anew: the process and the address stay."""
    for _ in range(3):
        wire.send(stack.address, wire.PATH_WITHOUT_TEXT)
        check_alive(stack, processes)
    stack.gateway.entry("server crashed, opening another", nth=3, timeout=5)
