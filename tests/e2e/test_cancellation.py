"""Who goes away, or runs out of time, frees the slot: seen through the worker's own ``Watch``."""

import time

import grpc
import pytest

from diplex import errors
from diplex.client import RawPrompt
from diplex.v1 import generation_pb2, generation_pb2_grpc
from tests.e2e.services import ENDLESS, channel_to, watching

LONG = {"max_tokens": 4000, "temperature": 0}
"""Half a minute of decoding at least."""

REQUEST = generation_pb2.GenerateRequest(prompt=ENDLESS)
REQUEST.stopping.max_tokens = LONG["max_tokens"]
REQUEST.sampling.temperature = 0

SOON = 2.0
"""Seconds: far more than a step takes, far less than the rest of the generation would."""


@pytest.fixture
def watch(stack):
    with watching(stack.worker.address) as watch:
        yield watch


@pytest.fixture
def client(stack):
    with stack.client() as client:
        yield client


@pytest.fixture
def stub(stack):
    with channel_to(stack.address) as channel:
        yield generation_pb2_grpc.GenerationServiceStub(channel)


def seconds_until_free(watch):
    began = time.monotonic()
    watch.until_busy(0)
    return time.monotonic() - began


def test_a_cancelled_stream(client, watch, figure):
    with client.stream(RawPrompt(ENDLESS), **LONG) as stream:
        next(stream)
        watch.until_busy(1)
        stream.cancel()
        seconds = seconds_until_free(watch)

        with pytest.raises(errors.Cancelled):
            stream.collect()

    assert seconds < SOON
    figure("a cancelled stream frees its slot after", f"{1e3 * seconds:.0f} ms")


def test_a_client_whose_connection_closes(stack, watch):
    with stack.client() as client:
        next(client.stream(RawPrompt(ENDLESS), **LONG))
        watch.until_busy(1)

    assert seconds_until_free(watch) < SOON


def test_a_cancelled_whole_answer(stub, watch, figure):
    call = stub.Generate.future(REQUEST)
    watch.until_busy(1)
    call.cancel()
    seconds = seconds_until_free(watch)

    assert call.code() is grpc.StatusCode.CANCELLED
    assert seconds < SOON
    figure("a cancelled whole answer frees its slot after", f"{1e3 * seconds:.0f} ms")


def test_one_of_several_is_cancelled_and_the_others_go_on(client, watch):
    streams = [client.stream(RawPrompt(ENDLESS), **LONG) for _ in range(3)]
    for stream in streams:
        next(stream)
    watch.until_busy(3)

    streams[1].cancel()
    watch.until_busy(2)

    for stream in (streams[0], streams[2]):
        assert next(stream).text
        stream.cancel()
    assert seconds_until_free(watch) < SOON


def test_a_deadline_passes_in_a_stream(client, watch, figure):
    began = time.monotonic()
    with client.stream(RawPrompt(ENDLESS), timeout=1, **LONG) as stream:
        watch.until_busy(1)
        with pytest.raises(errors.DeadlineExceeded):
            stream.collect()
        ended = time.monotonic() - began
        seconds = seconds_until_free(watch)

    assert stream.text
    assert 0.9 < ended < SOON
    assert seconds < SOON
    figure("a stream with a deadline of 1 s ended after", f"{ended:.3f} s")


def test_a_deadline_passes_in_a_whole_answer(client, watch):
    began = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        client.generate(RawPrompt(ENDLESS), timeout=1, **LONG)

    assert 0.9 < time.monotonic() - began < SOON
    watch.until_busy(1)
    assert seconds_until_free(watch) < SOON


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
def test_the_code_on_the_wire(stub, watch, rpc):
    with pytest.raises(grpc.RpcError) as raised:
        list_of(getattr(stub, rpc)(REQUEST, timeout=1))

    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    watch.until_busy(1)
    assert seconds_until_free(watch) < SOON


def list_of(reply):
    return [reply] if isinstance(reply, generation_pb2.GenerateResponse) else list(reply)


def test_the_freed_slot_is_used_again(client):
    for _ in range(20):  # more than there are slots
        with client.stream(RawPrompt(ENDLESS), **LONG) as stream:
            next(stream)

    assert client.generate(RawPrompt(ENDLESS), max_tokens=1, timeout=10).receipt.usage.completion_tokens == 1
