"""What can't be served is refused: a code, a reason, the field, at once; and the engine goes on as before."""

import math
import random
import statistics
import time

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from diplex import errors
from diplex.client import Client, Image, Message, RawPrompt, Role
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc
from tests.e2e import services

MEBIBYTE = 1 << 20
AT_ONCE = 1.0
"""Seconds; a refusal takes milliseconds, and a busy machine is forgiven much."""

GENERATION = "/diplex.v1.GenerationService"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)


@pytest.fixture(scope="module")
def gateway(stack):
    """A gateway of these tests' own in front of the worker: it takes 1 MiB, gRPC itself twice that."""
    with services.gateway(stack.worker.address, "--max-message-mib", "1") as gateway:
        with Client(gateway.address) as client:
            client.wait_until_ready(services.READY_SECONDS)
        yield gateway


@pytest.fixture(scope="module")
def channel(gateway):
    with services.channel_to(gateway.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return generation_pb2_grpc.GenerationServiceStub(channel)


@pytest.fixture(scope="module")
def latencies(request):
    """Seconds of each refusal."""
    return []


@pytest.fixture(autouse=True)
def same_engine_goes_on(stack, stub):
    """After each test an ordinary request is answered, by the same engine process as before."""
    before = stack.engine()
    yield
    reply = stub.Generate(ordinary(), timeout=20)
    assert reply.receipt.usage.completion_tokens == 2
    assert stack.engine() == before  # psutil compares process id and start time


def ordinary(**fields):
    request = pb.GenerateRequest(**({"prompt": "Once upon a time"} | fields))
    if not request.stopping.HasField("max_tokens"):
        request.stopping.max_tokens = 2
    return request


def chat(*parts, role=pb.ROLE_USER):
    return {"chat": pb.ChatInput(messages=[pb.ChatMessage(role=role, parts=parts)]), "prompt": None}


def sampling(**options):
    return {"sampling": pb.SamplingOptions(**options)}


def stopping(**options):
    return {"stopping": pb.StoppingOptions(**options)}


def output(**options):
    return {"output": pb.OutputOptions(**options)}


TEXT = pb.ContentPart(text="What is this?")
PICTURE = pb.ContentPart(image=pb.Image(data=PNG, media_type="image/png"))
TOOL = pb.Tool(name="clock", parameters_schema="{}")

MALFORMED = {
    "no input": ({"prompt": None}, "input"),
    "empty messages": ({"chat": pb.ChatInput(), "prompt": None}, "chat.messages"),
    "no parts": (chat(), "chat.messages[0].parts"),
    "empty text": (chat(pb.ContentPart(text="")), "chat.messages[0].parts[0].text"),
    "no content": (chat(TEXT, pb.ContentPart()), "chat.messages[0].parts[1]"),
    "no role": (chat(TEXT, role=pb.ROLE_UNSPECIFIED), "chat.messages[0].role"),
    "unknown role": (chat(TEXT, role=99), "chat.messages[0].role"),
    "empty prompt": ({"prompt": ""}, "prompt"),
    "idempotency key": ({"idempotency_key": "k" * 129}, "idempotency_key"),
    "no token ids": ({"prompt": None, "tokens": pb.TokenInput()}, "tokens.ids"),
    "token id beyond the vocabulary": (
        {"prompt": None, "tokens": pb.TokenInput(ids=[1, 4_000_000_000])},
        "tokens.ids[1]",
    ),
    "model name without an end": ({"model": "x" * 1000}, "model"),
    "model at an unknown precision": ({"model": "SmolLM2-135M-Instruct/int3"}, "model"),
    "unknown backend": ({"backend": 9}, "backend"),
    "unknown precision": ({"precision": 77}, "precision"),
    "unknown priority": ({"priority": 42}, "priority"),
    "unknown truncation": ({"truncation": -1}, "truncation"),
    "negative temperature": (sampling(temperature=-0.5), "sampling.temperature"),
    "temperature NaN": (sampling(temperature=math.nan), "sampling.temperature"),
    "temperature infinite": (sampling(temperature=math.inf), "sampling.temperature"),
    "top_p 0": (sampling(top_p=0), "sampling.top_p"),
    "top_p NaN": (sampling(top_p=math.nan), "sampling.top_p"),
    "min_p 2": (sampling(min_p=2), "sampling.min_p"),
    "repetition penalty 0": (sampling(repetition_penalty=0), "sampling.repetition_penalty"),
    "presence penalty -3": (sampling(presence_penalty=-3), "sampling.presence_penalty"),
    "frequency penalty 3": (sampling(frequency_penalty=3), "sampling.frequency_penalty"),
    "max_tokens 0": (stopping(max_tokens=0), "stopping.max_tokens"),
    "empty stop": (stopping(stop=["."] * 2 + [""]), "stopping.stop[2]"),
    "too many stops": (stopping(stop=["."] * 17), "stopping.stop"),
    "n 0": (output(n=0), "output.n"),
}
TOO_LONG = {
    "prompt": ({"prompt": "word " * 9000}, "input"),
    "max_tokens": (stopping(max_tokens=8192), "stopping.max_tokens"),
    "max_tokens, the largest number": (stopping(max_tokens=2**32 - 1), "stopping.max_tokens"),
}
UNSUPPORTED = {
    "image": (chat(TEXT, PICTURE), "chat.messages[0].parts[1].image"),
    "torch": ({"backend": pb.BACKEND_TORCH}, "backend"),
    "bf16": ({"precision": pb.PRECISION_BF16}, "precision"),
}


def cases(table, reason):
    return [pytest.param(fields, reason, field, id=name) for name, (fields, field) in table.items()]


def refused(call):
    """The error that a call ends in, its ErrorInfo and its fields at fault; and how many seconds it took."""
    began = time.perf_counter()
    with pytest.raises(grpc.RpcError) as raised:
        call()
    seconds = time.perf_counter() - began
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    details = rpc_status.from_call(raised.value)
    for detail in details.details if details else ():
        detail.Unpack(info) or detail.Unpack(bad_request)
    return raised.value, info, [violation.field for violation in bad_request.field_violations], seconds


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        *cases(MALFORMED, "INVALID_REQUEST"),
        *cases(TOO_LONG, "CONTEXT_LENGTH_EXCEEDED"),
        *cases(UNSUPPORTED, "UNSUPPORTED_FEATURE"),
    ],
)
def test_the_field_at_fault_is_named(stub, latencies, rpc, fields, reason, field):  # noqa: PLR0917  # fixtures
    error, info, violations, seconds = refused(lambda: answer(stub, rpc, ordinary(**fields)))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, info.domain) == (reason, "diplex")
    assert violations == [field]
    assert seconds < AT_ONCE
    latencies.append(seconds)


@pytest.mark.parametrize(
    ("rpc", "field"), [("Generate", "resume"), ("GenerateStream", "resume.resumption_token")]
)
def test_a_resumption_token_that_nobody_gave(stub, rpc, field):
    resume = pb.Resume(resumption_token="forged.", after_sequence=1)  # noqa: S106  # no password
    error, _, violations, _ = refused(lambda: answer(stub, rpc, ordinary(resume=resume)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations == [field]


def answer(stub, rpc, request):
    reply = getattr(stub, rpc)(request, timeout=20)
    return reply if isinstance(reply, pb.GenerateResponse) else list(reply)


def test_latency_of_refusals(latencies, figure):
    figure(
        "refusals",
        f"{len(latencies)}, median {1e3 * statistics.median(latencies):.1f} ms, "
        f"longest {1e3 * max(latencies):.0f} ms",
    )


def test_all_faults_are_named_at_once(stub):
    request = ordinary(backend=9, **sampling(temperature=-1, top_p=2), **stopping(max_tokens=0))

    _, _, violations, _ = refused(lambda: stub.Generate(request))

    assert violations == ["backend", "sampling.temperature", "sampling.top_p", "stopping.max_tokens"]


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
@pytest.mark.parametrize("name", ["gpt-17", "../../etc/passwd", "\x00", "名"])
def test_unknown_model(stub, rpc, name):
    error, info, _, seconds = refused(lambda: answer(stub, rpc, ordinary(model=name)))

    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert (info.reason, info.domain) == ("MODEL_NOT_FOUND", "diplex")
    assert seconds < AT_ONCE


@pytest.mark.parametrize(
    "data",
    [b"\xff\xff\xff", b"\x0a\x7fshort", b"\x0a\x02\xc3\x28"],
    ids=["no field", "cut off", "no UTF-8"],
)
@pytest.mark.parametrize(
    ("path", "streams"),
    [
        (f"{GENERATION}/Generate", False),
        (f"{GENERATION}/GenerateStream", True),
        (f"{GENERATION}/CountTokens", False),
        ("/diplex.v1.ModelService/GetModel", False),
    ],
)
def test_undecodable_bytes(channel, path, streams, data):
    kind = channel.unary_stream if streams else channel.unary_unary
    call = kind(path, request_serializer=None, response_deserializer=None)

    error, info, _, seconds = refused(lambda: list(call(data, timeout=20)))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (info.reason, info.domain) == ("MALFORMED_MESSAGE", "diplex")
    assert seconds < AT_ONCE


def test_random_bytes_never_cause_a_defect(channel):
    call = channel.unary_unary(f"{GENERATION}/Generate", request_serializer=None, response_deserializer=None)
    chance = random.Random(0)  # noqa: S311  # guards nothing

    for _ in range(200):
        error, info, _, _ = refused(lambda: call(chance.randbytes(chance.randrange(40)), timeout=20))
        assert error.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
        assert info.domain == "diplex"


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
def test_message_over_the_policy_limit(stub, rpc):
    request = ordinary(prompt="x" * (3 * MEBIBYTE // 2))

    error, info, _, seconds = refused(lambda: answer(stub, rpc, request))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.reason, info.domain) == ("MESSAGE_TOO_LARGE", "diplex")
    assert info.metadata["limit"] == str(MEBIBYTE)
    assert info.metadata["bytes"] == str(request.ByteSize())
    assert seconds < AT_ONCE


@pytest.mark.parametrize("rpc", ["Generate", "GenerateStream"])
def test_message_over_the_transport_limit(stub, rpc):
    error, info, _, _ = refused(lambda: answer(stub, rpc, ordinary(prompt="x" * 3 * MEBIBYTE)))

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info.reason == ""  # gRPC itself refused it


def test_the_client_refuses_a_large_message_before_it_sends_it():
    with Client("unix:/nobody/listens.here", max_message_bytes=MEBIBYTE) as client:
        began = time.perf_counter()
        with pytest.raises(errors.MessageTooLarge, match=str(MEBIBYTE)):
            client.generate(RawPrompt("x" * MEBIBYTE))
        with pytest.raises(errors.MessageTooLarge):
            client.stream([Message(Role.USER, Image(bytes(MEBIBYTE)))])

    assert time.perf_counter() - began < AT_ONCE


def test_an_empty_batch_and_a_plan_for_nothing(channel):
    stub = generation_pb2_grpc.GenerationServiceStub(channel)
    batch = lambda: list(stub.GenerateBatch(pb.GenerateBatchRequest(), timeout=20))  # noqa: E731
    plan = lambda: stub.Plan(pb.GenerateRequest(), timeout=20)  # noqa: E731
    for call, field in ((batch, "requests"), (plan, "input")):
        error, info, fields, _ = refused(call)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert info.reason == "INVALID_REQUEST"
        assert fields == [field]
