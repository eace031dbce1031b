"""Clients that come back for a generation: by its key, by its tokens, to this gateway or another one."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from gateway.resilience.config import ResilienceConfig
from tests.fakes import Fail, FakeWorker, Hold, Say
from tests.integration.gateway.serving import drained, failure, serving

WORDS = [Say("one "), Say("two "), Say("three "), Say("four")]
LINGERING = ResilienceConfig(linger_seconds=60)
BRIEF = ResilienceConfig(linger_seconds=0)


def asked(key="", **fields):
    return pb.GenerateRequest(model="tiny", prompt="Hi", idempotency_key=key, **fields)


def again(request, events, *, with_tokens=True, after=None):
    """The same request, to go on behind these events."""
    repeated = pb.GenerateRequest()
    repeated.CopyFrom(request)
    repeated.resume.after_sequence = events[-1].sequence if after is None else after
    if with_tokens:
        repeated.resume.resumption_token = "".join(event.resumption_token for event in events)
    return repeated


def text_of(events):
    return "".join(event.delta.text for event in events)


async def some(call, count):
    return [await call.read() for _ in range(count)]


@pytest.fixture
async def worker():
    async with FakeWorker("one", script=WORDS) as fake:
        yield fake


@pytest.fixture
def held(worker):
    """Holds the worker's generation behind its second word, until it is set."""
    gate = asyncio.Event()
    worker.script = [*WORDS[:2], Hold(gate), *WORDS[2:]]
    return gate


@asynccontextmanager
async def two_gateways(worker, folder):
    """Two gateways with the same secrets."""
    keys = folder / "keys"
    keys.write_text(secrets.token_hex(32))
    config = ResilienceConfig(linger_seconds=0, resumption_keys_file=str(keys))
    async with AsyncExitStack() as stack:
        yield [
            (await stack.enter_async_context(serving(worker, resilience=config)))[1].generation
            for _ in range(2)
        ]


class TestKeys:
    async def test_a_lost_stream_is_read_on(self, worker, held):
        async with serving(worker, resilience=LINGERING) as (_, client):
            request = asked("k")
            call = client.generation.GenerateStream(request)
            begun = await some(call, 2)
            call.cancel()
            held.set()
            second = again(request, begun, with_tokens=False)
            rest = await drained(client.generation.GenerateStream(second))
            assert text_of([*begun, *rest]) == "one two three four"
            assert [event.sequence for event in [*begun, *rest]] == list(range(1, 8))
            # And it can be read from anywhere, as often as one likes.
            for after in range(7):
                repeated = again(request, begun, with_tokens=False, after=after)
                events = await drained(client.generation.GenerateStream(repeated))
                assert events == [*begun, *rest][after:]
        assert len(worker.calls) == 1

    async def test_a_repeated_call_joins_the_first(self, worker, held):
        async with serving(worker, resilience=LINGERING) as (_, client):
            calls = [client.generation.Generate(asked("k")) for _ in range(3)]
            stream = client.generation.GenerateStream(asked("k"))
            await worker.next_call()
            held.set()
            replies = [await call for call in calls]
            late = await client.generation.Generate(asked("k"))
            assert all(reply == late for reply in replies)
            assert late.choices[0].text == text_of(await drained(stream)) == "one two three four"
        assert len(worker.calls) == 1

    async def test_no_generation_without_a_client_and_a_key(self, worker, held):
        async with serving(worker, resilience=LINGERING) as (_, client):
            for request in (asked(), asked(resumable=True)):
                call = client.generation.GenerateStream(request)
                await some(call, 2)
                seen = await worker.next_call()
                call.cancel()
                await seen.ended.wait()
                assert seen.cancelled

    @pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
    async def test_it_ends_when_nobody_comes_back(self, worker, held, method):
        async with serving(worker, resilience=BRIEF) as (_, client):
            call = getattr(client.generation, method)(asked("k"))
            seen = await worker.next_call()
            call.cancel()
            await seen.ended.wait()
            assert seen.cancelled
            held.set()
            assert (await client.generation.Generate(asked("k"))).choices[0].text == "one two three four"
        assert len(worker.calls) == 2

    async def test_it_ends_with_the_gateway(self, worker, held):
        async with serving(worker, resilience=LINGERING) as (_, client):
            call = client.generation.GenerateStream(asked("k"))
            await some(call, 2)
            seen = await worker.next_call()
            call.cancel()
        await seen.ended.wait()
        assert seen.cancelled

    async def test_another_request_is_refused(self, worker):
        async with serving(worker) as (_, client):
            await client.generation.Generate(asked("k"))
            other = asked("k", sampling=pb.SamplingOptions(temperature=0.5))
            error = await failure(client.generation.Generate(other))
            assert type(error) is errors.IdempotencyKeyReused
            assert (await failure(client.generation.GenerateStream(other))).reason == "IDEMPOTENCY_KEY_REUSED"

    async def test_a_key_is_its_callers_own(self, worker):
        async with serving(worker) as (_, client):
            for name in ("alice", "bob", "alice"):
                await client.generation.Generate(asked("k"), metadata=(("diplex-client", name),))
        assert [call.request.client for call in worker.calls] == ["alice", "bob"]

    async def test_what_failed_is_tried_again(self, worker):
        worker.script = [Fail(errors.ContextLengthExceeded("long"))]
        async with serving(worker) as (_, client):
            error = await failure(client.generation.Generate(asked("k")))
            assert type(error) is errors.ContextLengthExceeded
            worker.script = WORDS
            assert (await client.generation.Generate(asked("k"))).choices

    async def test_answers_are_kept_for_a_time(self, worker):
        async with serving(worker, resilience=ResilienceConfig(keep_seconds=0)) as (_, client):
            for _ in range(2):
                await client.generation.Generate(asked("k"))
        assert len(worker.calls) == 2

    async def test_the_oldest_answers_go_first(self, worker):
        worker.script = [Say("x" * 400_000)]
        async with serving(worker, resilience=ResilienceConfig(keep_mib=1)) as (_, client):
            for key in ("a", "b", "c"):
                await client.generation.Generate(asked(key))
            for key in ("c", "b", "a"):
                await client.generation.Generate(asked(key))
        assert len(worker.calls) == 4

    async def test_without_room_nothing_is_kept(self, worker):
        async with serving(worker, resilience=ResilienceConfig(keep_mib=0)) as (_, client):
            for _ in range(2):
                assert text_of(await drained(client.generation.GenerateStream(asked("k")))) == (
                    "one two three four"
                )
        assert len(worker.calls) == 2

    async def test_the_stream_is_not_held_and_there_are_no_tokens(self, worker):
        async with serving(worker) as (_, client):
            request = asked("k", resume=pb.Resume(after_sequence=3))
            error = await failure(client.generation.GenerateStream(request))
            assert type(error) is errors.ResumptionLost

    async def test_a_whole_answer_is_not_taken_up(self, worker):
        async with serving(worker) as (_, client):
            request = asked("k", resume=pb.Resume(after_sequence=3))
            error = await failure(client.generation.Generate(request))
            assert [violation.field for violation in error.violations] == ["resume"]

    async def test_two_readers_at_their_own_pace(self, worker, held):
        async with serving(worker, resilience=LINGERING) as (_, client):
            first, second = (client.generation.GenerateStream(asked("k")) for _ in range(2))
            begun = await some(first, 3)
            held.set()
            assert text_of([*begun, *await drained(first)]) == "one two three four"
            assert text_of(await drained(second)) == "one two three four"
        assert len(worker.calls) == 1


class TestTokens:
    @pytest.mark.parametrize("key", ["", "k"])
    @pytest.mark.parametrize("count", range(1, 7))
    async def test_another_gateway_goes_on(self, worker, tmp_path, count, key):
        async with two_gateways(worker, tmp_path) as (here, there):
            request = asked(key, resumable=True)
            call = here.GenerateStream(request)
            begun = await some(call, count)
            call.cancel()
            rest = await drained(there.GenerateStream(again(request, begun)))
            assert text_of([*begun, *rest]) == "one two three four"
            assert [event.sequence for event in [*begun, *rest]] == list(range(1, 8))
            receipt = rest[-1].receipt
            assert receipt.attempts == 2
            seeds = {call.request.request.sampling.seed for call in worker.calls}
            assert seeds == {receipt.seed}
            # Which can be lost in turn: its tokens go on from those of the first gateway.
            later = [*begun, *rest][:6]
            assert await drained(here.GenerateStream(again(request, later)))

    async def test_the_request_must_be_the_same(self, worker, tmp_path):
        async with two_gateways(worker, tmp_path) as (here, there):
            events = await drained(here.GenerateStream(asked(resumable=True)))
            other = asked(resumable=True, stopping=pb.StoppingOptions(max_tokens=99))
            error = await failure(there.GenerateStream(again(other, events[:3])))
            assert [violation.field for violation in error.violations] == ["resume.resumption_token"]

    async def test_a_gateway_with_other_secrets(self, worker):
        async with serving(worker) as (_, here), serving(worker) as (_, there):
            request = asked(resumable=True)
            events = await drained(here.generation.GenerateStream(request))
            error = await failure(there.generation.GenerateStream(again(request, events[:3])))
            assert type(error) is errors.InvalidRequest
            assert "resumption keys" in error.message

    async def test_tokens_only_for_who_wants_them(self, worker):
        async with serving(worker) as (_, client):
            plain = await drained(client.generation.GenerateStream(asked()))
            sealed = await drained(client.generation.GenerateStream(asked(resumable=True)))
        assert not any(event.resumption_token for event in plain)
        assert [bool(event.resumption_token) for event in sealed] == [*[True] * 6, False]
