"""The load generator's two doors, to one gateway."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from diplex import errors
from diplex.bench.doors import GrpcDoor, HttpDoor, Refused, Target
from tests.fakes import Fail, Say

TARGET = Target("tiny", None, 5.0)


@pytest.fixture(params=["grpc", "http"])
async def door(request, gateway):
    made = (
        GrpcDoor(gateway.address, TARGET)
        if request.param == "grpc"
        else HttpDoor(f"{gateway.url}/v1/", TARGET)
    )
    async with aclosing(Closing(made)):
        yield made


class Closing:
    def __init__(self, door):
        self.aclose = door.close


async def counts(door, prompt=(1, 2, 3), tokens=2):
    return [count async for count in door.generate(prompt, tokens)]


async def test_an_answer_has_exactly_so_many_tokens(door, worker):
    worker.script = [Say("a"), Say("b")]
    assert await counts(door) == [1, 1]
    request = worker.calls[0].request.request
    assert list(request.tokens.ids) == [1, 2, 3]
    assert (request.stopping.max_tokens, request.stopping.min_tokens) == (2, 2)
    assert request.sampling.temperature == 0
    assert 2 < worker.calls[0].timeout <= 5.02  # gRPC rounds what it sends up, to 10 ms at each of two hops


async def test_a_text_becomes_token_ids(door):
    assert list(await door.token_ids("one two three")) == [1, 2, 3]


async def test_a_refusal_has_a_reason_and_a_time(door, worker):
    worker.script = [Fail(errors.QueueFull("16 wait already", retry_after=2.0))]
    with pytest.raises(Refused) as raised:
        await counts(door)
    assert (raised.value.reason, raised.value.retry_after) == ("QUEUE_FULL", 2.0)
    assert "16 wait already" in raised.value.message


async def test_a_stream_that_breaks_off_is_a_failure(door, worker):
    worker.script = [Say("a"), Fail(errors.InternalError("it fell over"))]
    with pytest.raises(Refused, match="INTERNAL"):
        await counts(door)


@pytest.mark.parametrize(
    "door", [GrpcDoor("127.0.0.1:1", TARGET), HttpDoor("http://127.0.0.1:1/v1", TARGET)], ids=["grpc", "http"]
)
async def test_nobody_there(door):
    with pytest.raises(Refused, match=r"127\.0\.0\.1:1"):
        await door.token_ids("one")
    await door.close()
