"""The synchronous client against a gateway that runs in a thread."""

import subprocess
import sys
import threading

import pytest

from diplex import Client, Health, errors
from diplex.client import LoadPhase
from tests.fake_gateway import MODEL, FakeGateway


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def client(gateway):
    with gateway.in_thread() as address, Client(address) as client:
        yield client


def cancelled(gateway):
    assert gateway.cancelled.wait(10), "the gateway saw no cancellation"
    gateway.cancelled.clear()


def test_generate_and_stream_agree(client):
    unary = client.generate("hi", n=2, token_ids=True, request_id="same")
    with client.stream("hi", n=2, token_ids=True, request_id="same") as stream:
        texts = [delta.text for delta in stream if delta.choice == 0]
    assert "".join(texts) == stream.text == unary.text
    assert stream.collect() == unary
    assert stream.receipt == unary.receipt
    assert stream.accepted == unary.accepted


def test_every_way_of_leaving_a_stream_cancels(gateway, client):
    gateway.hold_after = 1
    with client.stream("hi") as stream:
        next(stream)
    cancelled(gateway)
    stream = client.stream("hi")
    next(stream)
    stream.close()
    cancelled(gateway)
    stream = client.stream("hi")
    next(stream)
    del stream
    cancelled(gateway)


def test_another_thread_may_cancel(gateway, client):
    gateway.hold_after = 1
    stream = client.stream("hi")
    next(stream)
    thread = threading.Thread(target=stream.cancel)
    thread.start()
    with pytest.raises(errors.Cancelled):
        next(stream)
    thread.join()
    cancelled(gateway)


def test_deadlines(gateway, client):
    gateway.hold_after = 1
    with pytest.raises(errors.DeadlineExceeded, match=r"0\.2 s"):
        client.stream("hi", timeout=0.2).collect()
    cancelled(gateway)
    with pytest.raises(errors.DeadlineExceeded):
        client.generate("hi", timeout=0.2)


def test_errors_are_ours(gateway, client):
    gateway.error = errors.InvalidRequest.of_field("sampling.temperature", "must be at least 0")
    for call in (client.generate, lambda text: client.stream(text).collect()):
        with pytest.raises(errors.InvalidRequest) as caught:
            call("hi")
        assert caught.value.violations == gateway.error.violations


def test_nobody_there():
    with Client("127.0.0.1:1", patience=0) as client:
        with pytest.raises(errors.Unavailable, match=r"127\.0\.0\.1:1.*diplex up"):
            client.stream("x").collect()
        with pytest.raises(errors.Unavailable):
            client.health()
        with pytest.raises(errors.DeadlineExceeded, match=r"127\.0\.0\.1:1"):
            client.wait_until_ready(0.2)


def test_the_rest(client):
    client.wait_until_ready(10)
    assert client.health() is Health.SERVING
    assert client.health("nobody") is Health.SERVICE_UNKNOWN
    assert client.count_tokens("a b").tokens == 2
    assert len(client.list_models()) == 2
    assert client.get_model("fake").context_length == 2048


def test_load_and_unload(client):
    seen = []
    model = client.load_model(MODEL, progress=seen.append)
    assert [(each.phase, each.done, each.total, each.eta) for each in seen] == [
        (LoadPhase.CONVERT, 1, 4, None),
        (LoadPhase.LOAD, 50_000_000, 200_000_000, 3),
    ]
    assert model.deployments[0].loaded_bytes == 232 << 20
    client.unload_model(MODEL)
    with pytest.raises(errors.InsufficientMemory, match="there is no room"):
        client.load_model("Big-70B")
    with pytest.raises(errors.ModelNotFound):
        client.unload_model("Big-70B")


def test_too_large_a_request_is_not_sent(gateway, client):
    with Client(client.address, max_message_bytes=100) as small, pytest.raises(errors.MessageTooLarge):
        small.generate("x" * 100)
    assert gateway.requests == []


def test_the_address_comes_from_argument_then_environment_then_default(monkeypatch):
    monkeypatch.setenv("DIPLEX_ADDRESS", "unix:/from/env")
    addresses = []
    for given in ("host:1", None):
        with Client(given) as client:
            addresses.append(client.address)
    monkeypatch.delenv("DIPLEX_ADDRESS")
    with Client() as client:
        addresses.append(client.address)
    assert addresses == ["host:1", "unix:/from/env", "127.0.0.1:50051"]


def test_unix_sockets(gateway, tmp_path):
    with gateway.in_thread(f"unix:{tmp_path}/gw.sock") as address, Client(address) as client:
        assert client.generate("x").text


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_the_package_alone_loads_neither_grpc_nor_protobuf():
    done = python("import diplex, sys; print(sys.modules.keys() & {'grpc', 'google.protobuf'})")
    assert done.stdout == "set()\n"


def test_the_client_needs_none_of_the_extras():
    extras = ("structlog", "typer", "rich", "grpc_health", "grpc_reflection", "numpy")
    hide = "; ".join(f"sys.modules[{name!r}] = None" for name in extras)
    done = python(f"import sys; {hide}; from diplex import AsyncClient, Client; Client().close()")
    assert done.stderr == ""


def test_a_client_may_name_itself(gateway):
    with gateway.in_thread() as address, Client(address, client_id="given") as client:
        client.generate("hi")
    assert gateway.clients == ["given"]
