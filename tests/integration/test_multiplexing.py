"""Many calls of a worker's ``Generate`` over one of ``Multiplex``, as a gateway writes and reads them."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import grpc
import pytest
from google.rpc import status_pb2

from diplex import errors, status
from diplex.telemetry import REQUEST_ID_KEY
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2, worker_pb2_grpc
from tests.fakes import Fail, FakeWorker, Hold, Say, two_words
from tests.integration.gateway.serving import failure
from workers.runtime.guard import GatewayCheck, GatewayGuard

OK, CANCELLED, DEADLINE_EXCEEDED = (
    code.value[0]
    for code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED)
)


class Carrier:
    """A call of ``Multiplex``."""

    def __init__(self, stub, **options):
        self.call = stub.Multiplex(**options)

    async def begin(self, number, prompt="Hi", **options):
        """Begins a call, whose script the worker may find by the prompt."""
        message = worker_pb2.GenerateRequest(request=pb.GenerateRequest(model="tiny", prompt=prompt))
        await self.begin_with(number, message.SerializeToString(), **options)

    async def begin_with(self, number, data, **options):
        await self.send(number, begin=worker_pb2.MultiplexedCall(request=data, **options))

    async def send(self, number, **action):
        await self.call.write(worker_pb2.MultiplexRequest(id=number, **action))

    async def read(self):
        """The events of one message."""
        message = await self.call.read()
        assert isinstance(message, worker_pb2.MultiplexResponse)
        return list(message.events)

    async def until(self, holds):
        """Reads until some event is what is waited for; all that came, call -> its events."""
        events = defaultdict(list)
        while True:
            came = await self.read()
            for event in came:
                events[event.id].append(event)
            if any(map(holds, came)):
                return events

    async def until_said(self, text):
        return await self.until(lambda event: said(event) == text)

    async def until_ended(self, number):
        return await self.until(lambda event: event.id == number and event.HasField("end"))


def said(event):
    return pb.GenerateStreamResponse.FromString(event.response.event).delta.text


def texts(events):
    return [text for text in map(said, events) if text]


def kinds(events):
    """What came of one call, the end included."""
    return [
        worker_pb2.EventKind.Name(event.response.kind).removeprefix("EVENT_KIND_").lower()
        if event.HasField("response")
        else "end"
        for event in events
    ]


def error_of(event):
    """The error that a call has ended in."""
    details = status_pb2.Status.FromString(event.end.details)
    assert (details.code, details.message) == (event.end.code, event.end.message)
    return status.from_rpc_status(details)


@pytest.fixture
async def worker():
    async with FakeWorker() as fake:
        yield fake


@pytest.fixture
async def channel(worker):
    anything = [("grpc.max_receive_message_length", -1)]  # as gateways do
    async with grpc.aio.insecure_channel(worker.address, anything) as channel:
        yield channel


@pytest.fixture
def stub(channel):
    return worker_pb2_grpc.WorkerServiceStub(channel)


@pytest.fixture
async def carrier(stub):
    carrier = Carrier(stub)
    yield carrier
    carrier.call.cancel()


@pytest.fixture
def gates(worker):
    """Prompt -> the gate between the two words of its generation."""
    gates = defaultdict(asyncio.Event)
    worker.script = two_words(gates)
    return gates


async def test_each_call_gets_its_own(carrier, gates):
    await carrier.begin(1, "a")
    first = await carrier.until_said("a1")
    await carrier.begin(2, "b")
    await carrier.until_said("b1")
    gates["b"].set()
    second = await carrier.until_ended(2)
    gates["a"].set()
    third = await carrier.until_ended(1)
    assert [kinds(first[1]), kinds(third[1])] == [
        ["accepted", "delta"],
        ["delta", "finished", "receipt", "end"],
    ]
    assert [texts(third[1]), texts(second[2])] == [["a2"], ["b2"]]
    assert [set(events) for events in (first, second, third)] == [{1}, {2}, {1}]
    assert second[2][-1].end == third[1][-1].end == worker_pb2.MultiplexedEnd(code=OK)


async def test_what_is_written_at_once_comes_in_one_message(carrier, worker):
    gate = asyncio.Event()
    worker.script = [Hold(gate), Say("a"), Say("b")]
    for number in (1, 2, 3):
        await carrier.begin(number)
        await worker.next_call()
    gate.set()
    events = await carrier.read()
    assert [event.id for event in events if said(event) == "b"] == [1, 2, 3]


async def test_cancelling_one_leaves_the_other(carrier, worker, gates):
    await carrier.begin(1, "a")
    await carrier.begin(2, "b")
    await carrier.until_said("b1")
    await carrier.send(1, cancel=True)
    first = await carrier.until_ended(1)
    assert (kinds(first[1]), first[1][-1].end.code) == (["end"], CANCELLED)
    gates["b"].set()
    second = await carrier.until_ended(2)
    assert (texts(second[2]), second[2][-1].end.code) == (["b2"], OK)
    assert [(seen.ended.is_set(), seen.cancelled) for seen in worker.calls] == [(True, True), (True, False)]


async def test_what_is_asked_of_calls_that_have_ended_is_ignored(carrier, worker):
    await carrier.begin(1)
    await carrier.until_ended(1)
    for number in (1, 7):
        for action in ({"cancel": True}, {"pause": True}, {"pause": False}):
            await carrier.send(number, **action)
    await carrier.begin(2)
    events = await carrier.until_ended(2)
    assert (list(events), events[2][-1].end.code) == ([2], OK)
    assert not any(seen.cancelled for seen in worker.calls)


async def test_a_paused_call_is_held_back(carrier, worker):
    gate = asyncio.Event()
    words = [f"{number} " for number in range(5)]
    worker.script = lambda message: (
        [Say("first"), Hold(gate), *map(Say, words)] if message.request.prompt == "a" else [Say("other")]
    )
    await carrier.begin(1, "a")
    await carrier.until_said("first")
    await carrier.send(1, pause=True)
    await carrier.send(1)  # says nothing
    await carrier.send(1, cancel=False)
    for number in (2, 3):  # whose ends say that the pause has arrived, and that what it holds is not sent
        await carrier.begin(number)
        assert 1 not in await carrier.until_ended(number)
        gate.set()
    assert not worker.calls[0].ended.is_set()
    await carrier.send(1, pause=False)
    events = (await carrier.until_ended(1))[1]
    assert kinds(events) == [*["delta"] * 5, "finished", "receipt", "end"]
    assert texts(events) == words


async def test_a_paused_call_can_be_cancelled(carrier, worker, gates):
    await carrier.begin(1, "a")
    await carrier.until_said("a1")
    await carrier.send(1, pause=True)
    await carrier.begin(2, "b")
    await carrier.until_said("b1")
    gates["a"].set()
    await carrier.send(1, cancel=True)
    events = (await carrier.until_ended(1))[1]
    assert (kinds(events), events[-1].end.code) == (["end"], CANCELLED)
    assert worker.calls[0].cancelled


async def test_a_request_that_is_none_fails_alone(carrier, worker, gates):
    await carrier.begin(1, "a")
    await carrier.until_said("a1")
    await carrier.begin_with(2, b"\xff\xff\xff", metadata={REQUEST_ID_KEY: "r2"})
    events = await carrier.until_ended(2)
    error = error_of(events[2][-1])
    assert events[2][-1].end.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert (error.reason, error.metadata["request_id"]) == ("MALFORMED_MESSAGE", "r2")
    gates["a"].set()
    assert texts((await carrier.until_ended(1))[1]) == ["a2"]
    assert len(worker.calls) == 1


async def test_an_error_carries_its_details(carrier, worker):
    worker.script = [Say("a"), Fail(errors.QueueFull("full", metadata={"model": "tiny"}, retry_after=2))]
    await carrier.begin(1, metadata={REQUEST_ID_KEY: "r1"})
    events = (await carrier.until_ended(1))[1]
    error = error_of(events[-1])
    assert kinds(events) == ["accepted", "delta", "end"]
    assert (type(error), error.message, error.retry_after) == (errors.QueueFull, "full", 2)
    assert error.metadata == {"model": "tiny", "request_id": "r1"}


async def test_two_calls_of_one_id_end_all(carrier, worker, gates):
    await carrier.begin(1, "a")
    await carrier.begin(2, "b")
    await carrier.until_said("b1")
    await carrier.begin(1, "c")
    error = await failure(carrier.call)
    assert await carrier.call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in error.violations] == ["id"]
    assert [(seen.request.request.prompt, seen.cancelled) for seen in worker.calls] == [
        ("a", True),
        ("b", True),
    ]


async def test_they_end_while_a_message_is_on_its_way(carrier, worker):
    worker.script = [Say("x" * 20_000_000), Hold(asyncio.Event())]
    await carrier.begin(1)
    await worker.next_call()  # more than the connection takes while nobody reads
    await carrier.begin(1)
    await worker.calls[0].ended.wait()
    async with asyncio.timeout(10):
        assert type(await failure(carrier.call)) is errors.InvalidRequest


async def test_bytes_that_are_no_request_end_all(channel, worker, gates):
    method = "/diplex.worker.v1.WorkerService/Multiplex"
    call = channel.stream_stream(method, response_deserializer=worker_pb2.MultiplexResponse.FromString)()
    await call.write(
        worker_pb2.MultiplexRequest(id=1, begin=worker_pb2.MultiplexedCall()).SerializeToString()
    )
    await worker.next_call()
    await call.write(b"\xff\xff\xff")
    assert type(await failure(call)) is errors.MalformedMessage
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert worker.calls[0].cancelled


async def test_calls_go_on_when_their_caller_has_ended_its_side(carrier, stub, worker, gates):
    await carrier.begin(1, "a")
    await carrier.begin(2, "b")
    await carrier.until_said("b1")
    await carrier.call.done_writing()
    await stub.CountTokens(worker_pb2.CountTokensRequest())  # comes behind that, on the same connection
    for prompt, number in (("a", 1), ("b", 2)):
        gates[prompt].set()
        events = (await carrier.until_ended(number))[number]
        assert (texts(events), events[-1].end.code) == ([f"{prompt}2"], OK)
    assert await carrier.call.read() is grpc.aio.EOF
    assert await carrier.call.code() is grpc.StatusCode.OK


async def test_without_calls_it_ends_at_once(carrier):
    await carrier.call.done_writing()
    assert await carrier.call.read() is grpc.aio.EOF
    assert await carrier.call.code() is grpc.StatusCode.OK


async def test_cancelling_it_cancels_all_calls(carrier, worker, gates):
    for number in range(5):
        await carrier.begin(number, "a")
    seen = [await worker.next_call() for _ in range(5)]
    carrier.call.cancel()
    await asyncio.gather(*(call.ended.wait() for call in seen))
    assert all(call.cancelled for call in seen)


async def test_cancelling_it_in_the_midst_of_writing_is_no_defect(carrier, worker, caplog):
    worker.script = [*[Say("x" * 10_000)] * 2000, Hold(asyncio.Event())]
    for number in range(5):
        await carrier.begin(number)
    seen = [await worker.next_call() for _ in range(5)]
    await carrier.read()
    carrier.call.cancel()
    await asyncio.gather(*(call.ended.wait() for call in seen))
    await worker.stop()
    assert all(call.cancelled for call in seen)
    assert not [record for record in caplog.records if record.name.startswith("grpc")]


async def test_deadlines_are_those_of_the_calls(carrier, worker, gates):
    await carrier.begin(1, "a")
    await carrier.begin(2, "b", timeout_seconds=60)
    await carrier.begin(3, "c", timeout_seconds=0.1)
    assert (await carrier.until_ended(3))[3][-1].end.code == DEADLINE_EXCEEDED
    first, second, third = worker.calls
    assert first.timeout is None
    assert 59 < second.timeout <= 60
    assert 0 < third.timeout <= 0.1
    assert [seen.cancelled for seen in worker.calls] == [False, False, True]
    for number, prompt in ((1, "a"), (2, "b")):
        gates[prompt].set()
        assert (await carrier.until_ended(number))[number][-1].end.code == OK


async def test_a_deadline_that_has_passed_already(carrier, gates):
    await carrier.begin(1, timeout_seconds=-1)
    assert (await carrier.until_ended(1))[1][-1].end.code == DEADLINE_EXCEEDED


async def test_metadata_are_those_of_the_calls(carrier, worker):
    for number, name in enumerate(("r1", "r2")):
        await carrier.begin(number, metadata={REQUEST_ID_KEY: name})
        await carrier.until_ended(number)
    assert [seen.request_id for seen in worker.calls] == ["r1", "r2"]


async def test_callers_are_asked_once_who_they_are(tmp_path):
    file = tmp_path / "secret"
    file.write_text("horse")
    async with (
        FakeWorker(guard=GatewayGuard(GatewayCheck(token_file=str(file)))) as worker,
        grpc.aio.insecure_channel(worker.address) as channel,
    ):
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        stranger, known = Carrier(stub), Carrier(stub, metadata=(("authorization", "Bearer horse"),))
        assert type(await failure(stranger.call)) is errors.Unauthenticated
        await known.begin(1)
        assert (await known.until_ended(1))[1][-1].end.code == OK
        known.call.cancel()
    assert len(worker.calls) == 1
