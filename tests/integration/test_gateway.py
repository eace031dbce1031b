"""A whole gateway between a real client and fake workers."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from diplex import errors
from diplex.serving import MEBIBYTE
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from gateway.caller import Caller
from gateway.inference import Inference
from tests.fakes import Crash, Fail, FakeWorker, Hold, Load, Say, Vanish, model
from tests.integration.gateway.serving import HI, Client, drained, failure, serving, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


# What is cut to so many characters is still too much for gRPC's metadata if they have many bytes each.
LETTERS = ["x", "é", "語"]


@pytest.fixture
async def worker():
    async with FakeWorker("one") as fake:
        yield fake


@pytest.fixture
async def client(worker):
    async with serving(worker) as (_, client):
        yield client


class TestGeneration:
    async def test_streams(self, client, worker):
        events = await drained(client.generation.GenerateStream(HI, metadata=(("x-request-id", "r1"),)))
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
        assert [event.WhichOneof("event") for event in events] == [
            "accepted",
            "delta",
            "delta",
            "finished",
            "receipt",
        ]
        assert events[0].accepted.worker == "one"
        assert events[0].accepted.prompt_tokens == 3
        assert [event.delta.text for event in events[1:3]] == ["Hello", " world"]
        assert events[3].finished.reason == pb.FINISH_REASON_END_OF_SEQUENCE
        assert events[4].receipt.attempts == 1
        assert worker.calls[0].request_id == worker.calls[0].request.request_id == "r1"
        assert worker.calls[0].timeout is None
        assert not worker.calls[0].cancelled

    async def test_each_event_comes_when_it_is_sent(self, client, worker):
        gate = asyncio.Event()
        worker.script = [Say("a"), Hold(gate), Say("b")]
        call = client.generation.GenerateStream(HI)
        first = [await call.read(), await call.read()]
        assert first[1].delta.text == "a"
        gate.set()
        assert len(await drained(call)) == 3

    async def test_whole(self, client):
        response = await client.generation.Generate(HI)
        (choice,) = response.choices
        assert (choice.index, choice.text, list(choice.token_ids)) == (0, "Hello world", [])
        assert choice.finish_reason == pb.FINISH_REASON_END_OF_SEQUENCE
        assert response.accepted.model == "tiny"
        assert response.receipt.usage.completion_tokens == 2
        assert response.receipt.attempts == 1

    async def test_worker_gets_the_canonical_name_and_the_precision(self, client, worker):
        await client.generation.Generate(pb.GenerateRequest(model="TINY/INT8", prompt="Hi"))
        sent = worker.calls[0].request.request
        assert (sent.model, sent.precision) == ("tiny", pb.PRECISION_INT8)

    @pytest.mark.parametrize(("metadata", "name"), [((), "127.0.0.1"), ((("diplex-client", "me"),), "me")])
    async def test_worker_learns_who_asks_and_whether_anybody_reads_along(
        self, client, worker, metadata, name
    ):
        await client.generation.Generate(HI, metadata=metadata)
        await drained(client.generation.GenerateStream(HI, metadata=metadata))
        assert [call.request.client for call in worker.calls] == [name, name]
        assert [call.request.whole for call in worker.calls] == [True, False]
        assert [call.request.attempt for call in worker.calls] == [1, 1]

    async def test_model_may_be_left_out(self, client, worker):
        await client.generation.Generate(pb.GenerateRequest(prompt="Hi"))
        assert worker.calls[0].request.request.model == "tiny"

    async def test_count_tokens(self, client):
        reply = await client.generation.CountTokens(pb.CountTokensRequest(prompt="one two three"))
        assert (reply.tokens, reply.context_length) == (3, 2048)


class TestEndings:
    async def test_cancel_reaches_the_worker(self, client, worker):
        worker.script = [Say("a"), Hold(asyncio.Event())]
        call = client.generation.GenerateStream(HI)
        await call.read()
        call.cancel()
        await worker.calls[0].ended.wait()
        assert worker.calls[0].cancelled

    @pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
    async def test_cancel_before_admission_reaches_the_worker(self, client, worker, method):
        worker.script = [Hold(asyncio.Event())]
        call = getattr(client.generation, method)(HI)
        seen = await worker.next_call()
        call.cancel()
        await seen.ended.wait()
        assert seen.cancelled

    async def test_cancel_reaches_the_worker_while_the_client_reads_nothing(self, client, worker):
        worker.script = [Say("x" * 100_000)] * 200 + [Hold(asyncio.Event())]
        call = client.generation.GenerateStream(HI)
        await call.read()
        call.cancel()
        await worker.calls[0].ended.wait()
        assert worker.calls[0].cancelled

    async def test_deadline_travels_and_ends_the_generation(self, client, worker):
        worker.script = [Say("a"), Hold(asyncio.Event())]
        error = await failure(client.generation.GenerateStream(HI, timeout=0.5))
        assert isinstance(error, errors.DeadlineExceeded)
        seen = worker.calls[0]
        await seen.ended.wait()
        assert seen.cancelled
        assert 0 < seen.timeout < 0.6  # gRPC rounds what it sends up

    async def test_deadline_of_the_core_is_the_workers(self, worker):
        worker.script = [Say("a"), Hold(asyncio.Event())]
        async with serving(worker) as (gateway, _):
            with pytest.raises(errors.DeadlineExceeded):
                await Inference(gateway.fleet).generate_whole(HI, Caller.within(0.3, "r1"))
            await worker.calls[0].ended.wait()

    async def test_closing_the_cores_generator_cancels_the_worker(self, worker):
        worker.script = [Say("a"), Hold(asyncio.Event())]
        async with serving(worker) as (gateway, _):
            events = Inference(gateway.fleet).generate(HI, Caller("r1"))
            await anext(events)
            await events.aclose()
            await worker.calls[0].ended.wait()
            assert worker.calls[0].cancelled

    async def test_deadline_that_the_worker_tells(self, client, worker):
        worker.script = [Fail(errors.DeadlineExceeded("predicted"))]
        error = await failure(client.generation.Generate(HI))
        assert isinstance(error, errors.DeadlineExceeded)
        assert error.message == "predicted"

    async def test_workers_own_error_in_mid_stream(self, client, worker):
        worker.script = [Say("a"), Fail(errors.EngineCrashed("the engine died"))]
        error = await failure(client.generation.GenerateStream(HI))
        assert type(error) is errors.EngineCrashed
        assert error.message == "the engine died"

    @pytest.mark.parametrize("script", [[Vanish()], [Say("a"), Vanish()]])
    async def test_end_without_a_receipt_is_a_defect(self, client, worker, script):
        worker.script = script
        assert type(await failure(client.generation.GenerateStream(HI))) is errors.InternalError


class TestRefusals:
    async def test_invalid(self, client, worker):
        request = pb.GenerateRequest(prompt="Hi", sampling=pb.SamplingOptions(temperature=-1))
        error = await failure(client.generation.GenerateStream(request))
        assert type(error) is errors.InvalidRequest
        assert [violation.field for violation in error.violations] == ["sampling.temperature"]
        assert error.metadata["request_id"]
        assert not worker.calls

    async def test_images_for_a_model_without_eyes(self, client, worker):
        image = pb.ContentPart(image=pb.Image(data=b"x"))
        message = pb.ChatMessage(role=pb.ROLE_USER, parts=[image])
        request = pb.GenerateRequest(chat=pb.ChatInput(messages=[message]))
        error = await failure(client.generation.Generate(request))
        assert type(error) is errors.UnsupportedFeature
        assert [violation.field for violation in error.violations] == ["chat.messages[0].parts[0].image"]
        assert not worker.calls

    async def test_model_of_a_backend_that_is_not_running(self, client, worker):
        worker.lack(worker_pb2.UnservedModel(name="Eyes", backends=[pb.BACKEND_TORCH], reason="not here"))
        request = pb.GenerateRequest(model="eyes", prompt="Hi")

        async def refusal():
            return await failure(client.generation.Generate(request))

        error = await refusal()
        while type(error) is errors.ModelNotFound:  # until the gateway has heard of it
            error = await refusal()
        assert type(error) is errors.BackendNotRunning
        assert "--profile torch" in error.message
        assert not worker.calls

    async def test_unknown_model(self, client):
        error = await failure(client.generation.Generate(pb.GenerateRequest(model="tinny", prompt="Hi")))
        assert type(error) is errors.ModelNotFound
        assert "tiny" in error.message

    @pytest.mark.parametrize("letter", LETTERS)
    async def test_long_errors_arrive(self, client, worker, letter):
        text = letter * 3000
        worker.script = [Fail(errors.QueueFull(text, violations=[errors.FieldViolation(text, text)] * 20))]
        error = await failure(client.generation.Generate(HI))
        assert type(error) is errors.QueueFull
        assert text.startswith(error.message)

    async def test_undecodable_bytes(self, client):
        raw = client.channel.unary_stream("/diplex.v1.GenerationService/GenerateStream")
        error = await failure(raw(b"\xff\xff\xff"))
        assert type(error) is errors.MalformedMessage

    async def test_too_large(self, worker):
        async with serving(worker, max_message_mib=1000 / MEBIBYTE) as (_, client):
            error = await failure(client.generation.Generate(pb.GenerateRequest(prompt="x" * 1500)))
            assert type(error) is errors.MessageTooLarge
            assert error.metadata["limit"] == "1000"

    async def test_over_the_transport_limit(self, worker):
        async with serving(worker, max_message_mib=1000 / MEBIBYTE) as (_, client):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await client.generation.Generate(pb.GenerateRequest(prompt="x" * 3000))
            assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert rpc_status.from_call(raised.value) is None

    async def test_no_worker(self):
        async with serving() as (_, client):
            error = await failure(client.generation.Generate(HI))
            assert type(error) is errors.NoWorker
            assert error.retry_after

    async def test_failed_model_tells_why(self, worker):
        worker.advertise(model("tiny", state=models_pb2.MODEL_STATE_FAILED, detail="no memory"))
        async with serving(worker) as (_, client):
            error = await failure(client.generation.Generate(HI))
            assert type(error) is errors.Unavailable
            assert "no memory" in error.message


@pytest.fixture
async def pair():
    async with FakeWorker("one") as one, FakeWorker("two") as two:
        yield one, two


class TestSeveralWorkers:
    @pytest.mark.parametrize("script", [[Fail(errors.ModelLoading("soon"))], [Crash()]])
    async def test_next_worker_is_tried_before_admission(self, pair, script):
        one, two = pair
        one.script = script
        async with serving(one, two) as (_, client):
            response = await client.generation.Generate(HI)
            assert response.receipt.worker == "two"
            assert response.receipt.attempts == 2
            assert (len(one.calls), len(two.calls)) == (1, 1)

    async def test_deadline_goes_on_with_the_next_worker(self, pair):
        one, two = pair
        gate = asyncio.Event()
        one.script = [Hold(gate), Fail(errors.ModelLoading("soon"))]
        async with serving(one, two) as (_, client):
            call = client.generation.Generate(HI, timeout=60)
            await one.next_call()
            gate.set()
            await call
            assert 50 < two.calls[0].timeout < 60.1  # gRPC rounds what it sends up

    @pytest.mark.parametrize(
        "script",
        [
            [Fail(errors.InternalError("broken"))],
            [Fail(errors.ContextLengthExceeded("long"))],
        ],
    )
    async def test_next_worker_is_not_tried(self, pair, script):
        one, two = pair
        one.script = script
        async with serving(one, two) as (_, client):
            error = await failure(client.generation.Generate(HI))
            assert type(error) is type(script[-1].error)
            assert not two.calls

    async def test_last_workers_error_is_told(self, pair):
        for worker in pair:
            worker.script = [Fail(errors.ModelLoading(f"soon on {worker.name}"))]
        async with serving(*pair) as (_, client):
            error = await failure(client.generation.Generate(HI))
            assert error.message == "soon on two"
            count = await failure(client.generation.CountTokens(pb.CountTokensRequest(prompt="Hi")))
            assert count.message == "soon on two"

    async def test_the_idle_one_serves(self, pair):
        one, two = pair
        one.advertise(model("tiny", busy=3))
        async with serving(one, two) as (_, client):
            assert (await client.generation.Generate(HI)).receipt.worker == "two"

    async def test_models_are_merged_by_name(self, pair):
        one, two = pair
        two.advertise(model("Tiny", aliases=["wee"], precision=pb.PRECISION_FP32), model("big"))
        async with serving(one, two) as (_, client):
            reply = await client.models.ListModels(models_pb2.ListModelsRequest())
            assert [it.name for it in reply.models] == ["big", "tiny"]
            assert not reply.default_model
            got = (await client.models.GetModel(models_pb2.GetModelRequest(model="WEE"))).model
            assert [(it.worker, it.backend, it.precision) for it in got.deployments] == [
                ("one", pb.BACKEND_ONNX, pb.PRECISION_INT8),
                ("two", pb.BACKEND_ONNX, pb.PRECISION_FP32),
            ]
            error = await failure(client.models.GetModel(models_pb2.GetModelRequest(model="huge")))
            assert type(error) is errors.ModelNotFound

    async def test_default_model_is_told(self, pair):
        async with serving(*pair) as (_, client):
            reply = await client.models.ListModels(models_pb2.ListModelsRequest())
            assert reply.default_model == "tiny"


class TestFleet:
    async def test_health_follows_the_models(self, worker):
        worker.advertise(model("tiny", state=models_pb2.MODEL_STATE_LOADING))
        async with serving(worker) as (_, client):
            request = health_pb2.HealthCheckRequest(service="diplex.v1.GenerationService")
            watch = client.health.Watch(request)
            assert (await watch.read()).status == NOT_SERVING
            worker.advertise(model("tiny"))
            assert (await watch.read()).status == SERVING
            whole = await client.health.Check(health_pb2.HealthCheckRequest())
            assert whole.status == SERVING
            worker.drain()
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()

    async def test_health_ends_with_the_worker(self, worker):
        async with serving(worker) as (_, client):
            watch = client.health.Watch(health_pb2.HealthCheckRequest())
            while (await watch.read()).status != SERVING:
                pass
            await worker.stop()
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()

    async def test_draining_worker_gets_nothing_new(self, pair):
        one, two = pair
        async with serving(one, two) as (gateway, client):
            one.drain()
            await until(gateway, lambda fleet: any(worker.draining for worker in fleet.workers))
            assert (await client.generation.Generate(HI)).receipt.worker == "two"

    async def test_worker_that_comes_later_and_comes_back(self, tmp_path):
        late = FakeWorker("late", listen=f"unix:{tmp_path}/w.sock")
        async with AsyncExitStack() as stack:
            gateway, client = await stack.enter_async_context(serving(late))
            stack.push_async_callback(late.stop)
            assert type(await failure(client.generation.Generate(HI))) is errors.NoWorker
            for _ in range(2):
                await late.start()
                await until(gateway, lambda fleet: fleet.can_answer)
                assert (await client.generation.Generate(HI)).receipt.worker == "late"
                await late.stop()
                await until(gateway, lambda fleet: not fleet.connected)

    async def test_lost_workers_model_is_unavailable_not_unknown(self, pair):
        one, two = pair
        one.advertise(model("big"))
        async with serving(one, two) as (gateway, client):
            await one.stop()
            await until(gateway, lambda fleet: len(fleet.connected) == 1)
            error = await failure(client.generation.Generate(pb.GenerateRequest(model="big", prompt="Hi")))
            assert type(error) is errors.Unavailable
            assert "not connected" in error.message


async def test_reflection_lists_the_services(client):
    async def requests():
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    call = client.reflection.ServerReflectionInfo(requests())
    (reply,) = [reply async for reply in call]
    assert {service.name for service in reply.list_services_response.service} == {
        "diplex.v1.GenerationService",
        "diplex.v1.ModelService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@asynccontextmanager
async def process(*arguments):
    """``python -m gateway`` as a child, its log on a pipe."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        # Reads the log to its end, so that the pipe is closed too.
        await child.communicate()


async def logged(child, event):
    """Waits for a line of the log."""
    while f'"event": "{event}"'.encode() not in await child.stderr.readline():
        assert not child.stderr.at_eof(), f"the gateway ended before it logged {event!r}"


async def test_sigterm_lets_a_running_stream_end(worker, tmp_path):
    gate = asyncio.Event()
    worker.script = [Say("a"), Hold(gate), Say("b")]
    address = f"unix:{tmp_path}/g.sock"
    async with (
        process("--listen", address, "--workers", worker.address) as child,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await logged(child, "worker connected")
        client = Client(channel)
        call = client.generation.GenerateStream(HI, wait_for_ready=True)
        await call.read()
        # A watch that nobody ends must not hold up the drain.
        watch = client.health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        child.send_signal(signal.SIGTERM)
        await logged(child, "draining")
        assert (await watch.read()).status == NOT_SERVING
        gate.set()
        events = await drained(call)
        assert events[-1].WhichOneof("event") == "receipt"
        await logged(child, "stopped")
        assert await child.wait() == 0


async def test_what_still_runs_when_the_time_is_over_is_told_to_go_elsewhere(worker, tmp_path):
    worker.script = [Say("a"), Hold(asyncio.Event())]
    address = f"unix:{tmp_path}/g.sock"
    async with (
        process("--listen", address, "--workers", worker.address, "--drain-seconds", "0.2") as child,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await logged(child, "worker connected")
        client = Client(channel)
        stream = client.generation.GenerateStream(HI, wait_for_ready=True)
        await stream.read()
        whole = client.generation.Generate(HI)
        await worker.next_call()
        await worker.next_call()
        child.send_signal(signal.SIGTERM)
        for call in (stream, whole):
            error = await failure(call)
            assert isinstance(error, errors.Draining)
            assert error.retry_after
        await logged(child, "stopped")
        assert await child.wait() == 0


async def test_second_sigterm_ends_what_runs(worker, tmp_path):
    worker.script = [Say("a"), Hold(asyncio.Event())]
    address = f"unix:{tmp_path}/g.sock"
    async with (
        process("--listen", address, "--workers", worker.address) as child,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await logged(child, "worker connected")
        call = Client(channel).generation.GenerateStream(HI, wait_for_ready=True)
        await call.read()
        child.send_signal(signal.SIGTERM)
        await logged(child, "draining")
        child.send_signal(signal.SIGTERM)
        assert isinstance(await failure(call), errors.Draining)
        assert await child.wait() == 0
        await worker.calls[0].ended.wait()
        assert worker.calls[0].cancelled


async def test_address_in_use_is_said(worker):
    async with process("--listen", worker.address) as child:
        await logged(child, "not started")
        assert await child.wait() == 1


UNLOADED, FAILED = models_pb2.MODEL_STATE_UNLOADED, models_pb2.MODEL_STATE_FAILED
FP32, INT8 = pb.PRECISION_FP32, pb.PRECISION_INT8


class TestLoading:
    async def test_progress_is_relayed_and_the_next_worker_may_still_be_tried(self):
        full = errors.InsufficientMemory("no room", metadata={"needed_bytes": "1"})
        script = (Load("an artefact"), Fail(full))
        unloaded = [model(state=UNLOADED)]
        async with (
            FakeWorker("full", script=script, models=unloaded) as one,
            FakeWorker("roomy", script=(Load("another"), Say("Hi")), models=unloaded) as two,
            serving(one, two) as (_, client),
        ):
            events = await drained(client.generation.GenerateStream(HI))
            kinds = [event.WhichOneof("event") for event in events]
            assert kinds == ["progress", "progress", "accepted", "delta", "finished", "receipt"]
            assert [event.progress.detail for event in events[:2]] == ["an artefact", "another"]
            assert [event.sequence for event in events] == [0, 0, 1, 2, 3, 4]
            assert events[2].accepted.worker == "roomy"
            whole = await client.generation.Generate(HI)
            assert whole.choices[0].text == "Hi"

    async def test_the_last_refusal_is_the_callers(self):
        full = errors.InsufficientMemory("no room", metadata={"needed_bytes": "1"})
        async with (
            FakeWorker("full", script=(Load("x"), Fail(full)), models=[model(state=UNLOADED)]) as one,
            serving(one) as (_, client),
        ):
            error = await failure(client.generation.GenerateStream(HI))
            assert type(error) is errors.InsufficientMemory
            assert error.metadata["worker"] == "full"

    async def test_a_model_is_loaded_where_a_request_would_go(self):
        both = [model(precision=INT8, state=UNLOADED), model(precision=FP32, state=UNLOADED)]
        async with (
            FakeWorker("busy", models=[model(precision=INT8, state=FAILED)]) as one,
            FakeWorker("other", models=both) as two,
            serving(one, two) as (_, client),
        ):
            events = await drained(client.models.LoadModel(models_pb2.LoadModelRequest(model="tiny")))
            assert [event.WhichOneof("event") for event in events] == ["progress", "model"]
            await drained(client.models.LoadModel(models_pb2.LoadModelRequest(model="tiny/fp32")))
            assert (one.loads, two.loads) == ([], [("tiny", INT8), ("tiny", FP32)])

    @pytest.mark.parametrize("error", [errors.InsufficientMemory("no room"), errors.Draining("bye")])
    async def test_a_model_is_loaded_by_the_next_worker_that_can(self, error):
        waiting = model(precision=INT8, state=UNLOADED)
        async with (
            FakeWorker("one", models=[waiting], script=(Fail(error),)) as one,
            FakeWorker("two", models=[waiting]) as two,
            serving(one, two) as (_, client),
        ):
            events = await drained(client.models.LoadModel(models_pb2.LoadModelRequest(model="tiny")))
            assert events[-1].HasField("model")
            assert (one.loads, two.loads) == ([("tiny", INT8)], [("tiny", INT8)])
            two.script = (Fail(error),)
            last = await failure(client.models.LoadModel(models_pb2.LoadModelRequest(model="tiny")))
            assert type(last) is type(error)

    async def test_capabilities_are_those_of_all_workers(self):
        seeing = model(images=True)
        seeing.architecture = "llama"
        seeing.capabilities.vocabulary_size = 100
        async with (
            FakeWorker("one", models=[model()]) as one,
            FakeWorker("two", models=[seeing]) as two,
            serving(one, two) as (_, client),
        ):
            found = (await client.models.GetModel(models_pb2.GetModelRequest(model="tiny"))).model
            assert found.capabilities == models_pb2.ModelCapabilities(
                chat=True, images=True, context_length=2048, vocabulary_size=100
            )
            assert (found.name, found.architecture) == ("tiny", "llama")
            assert [it.worker for it in found.deployments] == ["one", "two"]

    async def test_what_has_failed_is_tried_again(self):
        broken = errors.UnsupportedModel("not today")
        async with (
            FakeWorker("one", models=[model(state=FAILED)], script=(Fail(broken),)) as one,
            serving(one) as (_, client),
        ):
            error = await failure(client.models.LoadModel(models_pb2.LoadModelRequest(model="tiny")))
            assert type(error) is errors.UnsupportedModel
            assert len(one.loads) == 1

    async def test_a_model_is_unloaded_wherever_it_is(self):
        async with (
            FakeWorker("one", models=[model(precision=INT8), model(precision=FP32, state=UNLOADED)]) as one,
            FakeWorker("two", models=[model(precision=INT8, state=models_pb2.MODEL_STATE_LOADING)]) as two,
            FakeWorker("three", models=[model(precision=INT8, state=UNLOADED)]) as three,
            serving(one, two, three) as (_, client),
        ):
            await client.models.UnloadModel(models_pb2.UnloadModelRequest(model="tiny"))
            assert (one.unloads, two.unloads, three.unloads) == ([("tiny", INT8)], [("tiny", INT8)], [])
            request = models_pb2.UnloadModelRequest(model="tiny", precision=FP32)
            assert type(await failure(client.models.UnloadModel(request))) is errors.ModelNotFound
            request = models_pb2.UnloadModelRequest(model="nobody")
            assert type(await failure(client.models.UnloadModel(request))) is errors.ModelNotFound

    async def test_only_what_is_named_is_loaded_or_unloaded(self, client, worker):
        for call in (
            client.models.LoadModel(models_pb2.LoadModelRequest(precision=99)),
            client.models.UnloadModel(models_pb2.UnloadModelRequest(precision=99)),
        ):
            error = await failure(call)
            assert [violation.field for violation in error.violations] == ["model", "precision"]
        assert worker.loads == worker.unloads == []

    async def test_a_worker_that_can_load_is_ready(self):
        async with (
            FakeWorker("one", models=[model(state=UNLOADED)], ready=True) as one,
            serving(one) as (gateway, client),
        ):
            await until(gateway, lambda fleet: fleet.can_answer)
            call = client.health.Watch(health_pb2.HealthCheckRequest(), timeout=10)
            while (await call.read()).status != SERVING:
                pass
            call.cancel()


async def test_a_plan_says_who_would_serve_and_why_others_would_not():
    loading = model(
        "tiny", precision=pb.PRECISION_FP32, state=models_pb2.MODEL_STATE_FAILED, detail="no room"
    )
    async with (
        FakeWorker("quick") as quick,
        FakeWorker("broad", backend=pb.BACKEND_TORCH) as broad,
        FakeWorker("sad", models=[loading]) as sad,
        serving(broad, sad, quick) as (_, client),
    ):
        plan = await client.generation.Plan(HI)
        assert [(each.worker, each.can_serve) for each in plan.candidates] == [
            ("quick", True),
            ("broad", True),
            ("sad", False),
        ]
        assert plan.candidates[0].backend == pb.BACKEND_ONNX
        assert plan.candidates[0].precision == pb.PRECISION_INT8
        assert "no room" in plan.candidates[2].reason
        plan = await client.generation.Plan(
            pb.GenerateRequest(model="tiny", prompt="Hi", backend=pb.BACKEND_TORCH)
        )
        assert [each.worker for each in plan.candidates if each.can_serve] == ["broad"]
        assert (
            type(await failure(client.generation.Plan(pb.GenerateRequest(model="x"))))
            is errors.InvalidRequest
        )
        unknown = pb.GenerateRequest(model="x", prompt="Hi")
        assert type(await failure(client.generation.Plan(unknown))) is errors.ModelNotFound
        assert [worker.calls for worker in (quick, broad, sad)] == [[], [], []]
