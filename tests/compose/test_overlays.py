"""What is laid over docker-compose.yml, and models that come as one file."""

from __future__ import annotations

import subprocess

import pytest

from diplex import Client, errors
from diplex.tls import Tls
from tests.compose.stack import FILES, MODEL, ROOT, Stack, docker, eventually, image

pytestmark = [pytest.mark.compose, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    folder.chmod(0o755)
    subprocess.run([ROOT / "deploy/compose/secrets", folder], check=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def secured(secrets):
    stack = Stack(
        f"diplex-secured-{secrets.stat().st_ino}",
        {"DIPLEX_SECRETS": str(secrets)},
        [*FILES, "deploy/compose/secure.yml"],
    )
    try:
        stack.up()
        eventually(lambda: stack.healthy("gateway"))
        yield stack
    finally:
        stack.down()


class TestSecure:
    def test_a_key_over_tls(self, secured, secrets):
        key = (secrets / "api-key").read_text().strip()
        with Client(secured.address(), tls=Tls(str(secrets / "ca.pem")), api_key=key) as client:
            assert client.generate("Hello", max_tokens=3).receipt.model == MODEL

    def test_no_key(self, secured, secrets):
        with (
            Client(secured.address(), tls=Tls(str(secrets / "ca.pem"))) as client,
            pytest.raises(errors.Unauthenticated),
        ):
            client.generate("Hello", max_tokens=3)

    def test_workers_take_calls_of_their_gateways_only(self, secured):
        call = (
            "from diplex import Client\n"
            "print(Client('onnx-worker:50061').health())\n"
            "import grpc; from diplex.worker.v1 import worker_pb2, worker_pb2_grpc\n"
            "stub = worker_pb2_grpc.WorkerServiceStub(grpc.insecure_channel('onnx-worker:50061'))\n"
            "print(next(stub.Watch(worker_pb2.WatchRequest(), timeout=10)))\n"
        )
        done = docker("exec", secured.container("gateway"), "/opt/venv/bin/python", "-c", call, check=False)
        assert done.stdout == "serving\n"
        assert "UNAUTHENTICATED" in done.stderr


def test_bundle_serves_a_machine_without_network(stack, tmp_path):
    bundle = tmp_path / "models.tar"
    with bundle.open("wb") as file:
        stack.compose(
            "run",
            "--rm",
            "-T",
            "models",
            "bundle",
            stdout=file,
            stderr=subprocess.PIPE,
            text=None,
            capture_output=False,
        )
    volume = docker("volume", "create").stdout.strip()
    offline = (
        "run",
        "--rm",
        "--network=none",
        "--read-only",
        "--tmpfs=/tmp",
        f"--volume={volume}:/var/lib/diplex",
    )
    try:
        with bundle.open("rb") as file:
            taken = docker(*offline, "--interactive", image("onnx-worker"), "unbundle", stdin=file)
        assert f"{MODEL}/int8 for onnx" in taken.stderr
        pulled = docker(*offline, image("onnx-worker"), "pull", MODEL)
        assert f"{MODEL}/int8 is ready" in pulled.stderr
        assert "convert" not in pulled.stderr
    finally:
        docker("volume", "rm", volume)
