"""Generations whose workers are lost: another one goes on, and the client can't tell."""

from __future__ import annotations

import asyncio

import pytest

from diplex import errors
from diplex.v1 import generation_pb2 as pb
from gateway.resilience.config import ResilienceConfig
from tests.fakes import Admit, Crash, Fail, FakeWorker, Hold, Load, Say, model
from tests.integration.gateway.serving import HI, drained, failure, serving, until

QUICK = ResilienceConfig(pause_first_seconds=0.01, pause_most_seconds=0.05, wait_seconds=20)
WORDS = [Say("one "), Say("two "), Say("three "), Say("four")]
CRASHED = errors.EngineCrashed("gone")


@pytest.fixture
async def pair():
    """Two workers of one model; the first one serves, for the second one is busier."""
    async with FakeWorker("one") as one, FakeWorker("two", models=[model("tiny", busy=1)]) as two:
        yield one, two


def texts(events):
    return [event.delta.text for event in events if event.HasField("delta")]


@pytest.mark.parametrize("end", [Crash(), Fail(CRASHED), Fail(errors.Draining("leaving"))])
@pytest.mark.parametrize("said", [0, 1, 2, 4])
async def test_a_stream_goes_on_without_a_gap_or_a_repeat(pair, said, end):
    one, two = pair
    one.script, two.script = [Admit(), *WORDS[:said], end], WORDS
    async with serving(one, two, resilience=QUICK) as (_, client):
        events = await drained(client.generation.GenerateStream(HI))
    assert [event.sequence for event in events] == list(range(1, 8))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["accepted", *["delta"] * 4, "finished", "receipt"]
    assert texts(events) == ["one ", "two ", "three ", "four"]
    assert not any(event.delta.token_ids for event in events)
    receipt = events[-1].receipt
    assert (receipt.attempts, receipt.worker) == (2, "two")
    (first,), (second,) = one.calls, two.calls
    assert first.request.request.sampling.seed == second.request.request.sampling.seed == receipt.seed
    assert (first.request.after_sequence, second.request.after_sequence) == (0, said + 1)
    prior = [(list(it.token_ids), it.characters) for it in second.request.prior]
    characters = sum(len(step.text) for step in WORDS[:said])
    assert prior == ([(list(range(1, said + 1)), characters)] if said else [])


async def test_a_whole_answer_goes_on_too(pair):
    one, two = pair
    one.script, two.script = [*WORDS[:2], Crash()], WORDS
    async with serving(one, two, resilience=QUICK) as (_, client):
        response = await client.generation.Generate(HI)
    assert response.choices[0].text == "one two three four"
    assert response.receipt.attempts == 2


async def test_token_ids_that_are_asked_for_are_told_once(pair):
    one, two = pair
    one.script, two.script = [*WORDS[:2], Crash()], WORDS
    request = pb.GenerateRequest(model="tiny", prompt="Hi", output=pb.OutputOptions(token_ids=True))
    async with serving(one, two, resilience=QUICK) as (_, client):
        events = await drained(client.generation.GenerateStream(request))
    assert [token for event in events for token in event.delta.token_ids] == [1, 2, 3, 4]


async def test_progress_is_not_told_behind_accepted(pair):
    one, two = pair
    one.script, two.script = [Load("first"), *WORDS[:1], Crash()], [Load("second"), *WORDS]
    request = pb.GenerateRequest(model="tiny", prompt="Hi", output=pb.OutputOptions(progress=True))
    async with serving(one, two, resilience=QUICK) as (_, client):
        events = await drained(client.generation.GenerateStream(request))
    assert [event.progress.detail for event in events if event.HasField("progress")] == ["first"]
    assert [event.sequence for event in events] == list(range(8))


async def test_only_the_same_backend_and_precision_goes_on(pair):
    one, two = pair
    one.script = [*WORDS[:1], Crash()]
    two.advertise(model("tiny", precision=pb.PRECISION_FP32, busy=1))
    quick = ResilienceConfig(pause_first_seconds=0.01, wait_seconds=0.3)
    async with serving(one, two, resilience=quick) as (_, client):
        error = await failure(client.generation.GenerateStream(HI))
    assert type(error) is errors.WorkerLost
    assert not two.calls


async def test_it_waits_for_the_worker_to_be_there_again():
    async with (
        FakeWorker("one", script=[*WORDS[:2], Crash()]) as one,
        serving(one, resilience=QUICK) as (
            gateway,
            client,
        ),
    ):
        call = client.generation.GenerateStream(HI)
        await until(gateway, lambda fleet: one.calls and not fleet.connected)
        one.script = WORDS
        await one.stop()
        await one.start()
        events = await drained(call)
    assert texts(events) == ["one ", "two ", "three ", "four"]
    assert events[-1].receipt.attempts == 2


async def test_it_waits_as_long_as_it_is_told():
    async with FakeWorker("one", script=[*WORDS[:2], Crash()]) as one:
        quick = ResilienceConfig(wait_seconds=0.2)
        async with serving(one, resilience=quick) as (_, client):
            error = await failure(client.generation.GenerateStream(HI))
    assert type(error) is errors.WorkerLost
    assert "worker one broke" in error.message
    assert error.retry_after
    assert error.metadata["worker"] == "one"


async def test_it_waits_until_the_deadline():
    async with (
        FakeWorker("one", script=[*WORDS[:2], Crash()]) as one,
        serving(one, resilience=QUICK) as (_, client),
    ):
        error = await failure(client.generation.GenerateStream(HI, timeout=0.5))
    assert type(error) is errors.DeadlineExceeded


async def test_a_client_that_leaves_ends_the_wait(pair):
    one, _ = pair
    one.script = [*WORDS[:2], Crash()]
    async with serving(one, resilience=QUICK) as (gateway, client):
        call = client.generation.GenerateStream(HI)
        await until(gateway, lambda fleet: one.calls and not fleet.connected)
        call.cancel()
        await one.stop()
        one.script = WORDS
        await one.start()
        await until(gateway, lambda fleet: fleet.connected)
    assert len(one.calls) == 1


async def test_what_kills_every_worker_is_given_up(pair):
    for worker in pair:
        worker.script = [*WORDS[:2], Fail(CRASHED)]
    async with serving(*pair, resilience=QUICK) as (_, client):
        error = await failure(client.generation.GenerateStream(HI))
    assert type(error) is errors.EngineCrashed
    assert sum(len(worker.calls) for worker in pair) == QUICK.most_losses


async def test_losses_between_which_there_is_something_new_do_not_add_up(pair):
    one, two = pair
    words = [Say(f"{number} ") for number in range(12)]

    def cut(worker, count):
        worker.script = [*words[:count], Fail(CRASHED)] if count < len(words) else words

    cut(one, 1)
    cut(two, 2)
    async with serving(one, two, resilience=QUICK) as (_, client):
        call = client.generation.GenerateStream(HI)
        for count in range(1, 13):
            worker = one if count % 2 else two
            await worker.next_call()
            cut(worker, count + 2)
        events = await drained(call)
    assert texts(events) == [word.text for word in words]
    assert events[-1].receipt.attempts == 12


@pytest.mark.parametrize(
    "error",
    [errors.QueueFull("full"), errors.InsufficientMemory("large"), errors.ModelNotFound("left"), CRASHED],
)
async def test_what_one_worker_refuses_another_may_take(pair, error):
    one, two = pair
    one.script = [Fail(error)]
    async with serving(one, two, resilience=QUICK) as (_, client):
        assert (await client.generation.Generate(HI)).receipt.worker == "two"


async def test_what_all_refuse_is_refused_at_once(pair):
    for worker in pair:
        worker.script = [Fail(errors.QueueFull("full"))]
    async with serving(*pair, resilience=QUICK) as (_, client):
        assert type(await failure(client.generation.Generate(HI))) is errors.QueueFull
    assert [len(worker.calls) for worker in pair] == [1, 1]


async def test_a_begun_stream_waits_for_room(pair):
    one, two = pair
    one.script, two.script = [*WORDS[:2], Crash()], [Fail(errors.QueueFull("full"))]
    async with serving(one, two, resilience=QUICK) as (_, client):
        call = client.generation.GenerateStream(HI)
        for _ in range(3):
            await two.next_call()
        two.script = WORDS
        events = await drained(call)
    assert texts(events) == ["one ", "two ", "three ", "four"]


async def test_time_that_has_passed_counts_against_the_limit(pair):
    one, two = pair
    gate = asyncio.Event()
    one.script, two.script = [*WORDS[:2], Hold(gate), Crash()], WORDS
    request = pb.GenerateRequest(model="tiny", prompt="Hi")
    request.time_limit.FromMilliseconds(60_000)
    async with serving(one, two, resilience=QUICK) as (_, client):
        call = client.generation.GenerateStream(request)
        await one.next_call()
        asyncio.get_running_loop().call_later(0.1, gate.set)
        await drained(call)
    left = two.calls[0].request.request.time_limit.ToMilliseconds()
    assert one.calls[0].request.request.time_limit.ToMilliseconds() == 60_000
    assert 50_000 < left < 59_910


async def _cancelled(client, calls):
    """Makes so many calls of all kinds, and cancels each at another moment."""
    for number in range(calls):
        request = pb.GenerateRequest(model="tiny", prompt="Hi")
        if number % 2:
            request.idempotency_key = f"k{number}"
        if number % 3:
            call = client.generation.GenerateStream(request)
            for _ in range(number % 4):
                await call.read()
        else:
            call = client.generation.Generate(request)
            await asyncio.sleep(0)
        call.cancel()


async def test_cancelled_calls_leave_no_task_behind():
    async with (
        FakeWorker(script=[*WORDS[:2], Hold(asyncio.Event())]) as worker,
        serving(worker, resilience=ResilienceConfig(linger_seconds=0)) as (_, client),
    ):
        await _cancelled(client, 20)  # what carries all calls to a worker is opened with its first, and stays
        await asyncio.gather(*(seen.ended.wait() for seen in worker.calls))
        before = len(asyncio.all_tasks())
        await _cancelled(client, 200)
        await asyncio.gather(*(seen.ended.wait() for seen in worker.calls))
        async with asyncio.timeout(10):
            while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110  # gRPC tells nobody of its tasks
                await asyncio.sleep(0.01)
