"""What `docker compose up` gives: answers through published ports, from containers that may little else."""

from __future__ import annotations

import json
import urllib.request

import pytest

from diplex import Client, Health, errors
from tests.compose.stack import MODEL, TORCH_MODEL, docker, inspect

pytestmark = [pytest.mark.compose, pytest.mark.timeout(300)]

SERVICES = ("gateway", "onnx-worker")


class TestAnswers:
    def test_over_grpc(self, stack):
        with Client(stack.address()) as client:
            answer = client.generate("Hello", min_tokens=5, max_tokens=5)
            assert answer.receipt.model == MODEL
            assert answer.receipt.usage.completion_tokens == 5
            assert client.health(f"model/{MODEL}") is Health.SERVING

    def test_over_http(self, stack):
        body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
        request = urllib.request.Request(
            f"http://{stack.address(8000)}/v1/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310  # ours
            assert json.load(response)["usage"]["completion_tokens"] > 0

    def test_model_of_a_backend_that_is_not_running(self, stack):
        with Client(stack.address()) as client, pytest.raises(errors.BackendNotRunning) as refused:
            client.generate("Hello", model=TORCH_MODEL)
        assert "`docker compose --profile torch up -d`" in refused.value.message


class TestConfinement:
    @pytest.fixture(params=SERVICES)
    def container(self, stack, request):
        return stack.container(request.param)

    def test_what_the_engine_was_told(self, container):
        found = inspect(container)
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert [it.partition(":")[0].partition("=")[0] for it in host["SecurityOpt"]] == ["no-new-privileges"]
        assert not host["Privileged"]
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert host["PidsLimit"] > 0

    def test_what_the_kernel_says(self, container):
        read = "print(open('/proc/1/status').read())"
        told = docker("exec", container, "/opt/venv/bin/python", "-c", read).stdout
        status = {
            name: value.split() for name, _, value in (line.partition(":") for line in told.splitlines())
        }
        assert status["Uid"] == ["10001"] * 4
        assert status["Gid"] == ["10001"] * 4
        assert status["NoNewPrivs"] == ["1"]
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind][0], 16) == 0, kind

    @pytest.mark.parametrize("path", ["/file", "/opt/diplex/file", "/opt/venv/file", "/etc/file"])
    def test_root_file_system_is_not_written_to(self, container, path):
        write = f"open({path!r}, 'w')"
        done = docker("exec", container, "/opt/venv/bin/python", "-c", write, check=False)
        assert "Read-only file system" in done.stderr

    def test_there_is_no_shell(self, container):
        for shell in ("sh", "bash"):
            assert docker("exec", container, shell, "-c", "true", check=False).returncode != 0

    def test_only_the_gateway_is_published_and_on_the_loopback(self, stack):
        def published(service):
            ports = inspect(stack.container(service))["NetworkSettings"]["Ports"]
            return {port: hosts for port, hosts in ports.items() if hosts}

        assert not published("onnx-worker")
        gateway = published("gateway")
        assert set(gateway) == {"50051/tcp", "8000/tcp"}
        assert {it["HostIp"] for hosts in gateway.values() for it in hosts} == {"127.0.0.1"}


def test_signal_ends_it_in_good_order(stack):
    """Its own process is the first one, and nothing stands between the signal and it."""
    container = stack.container("gateway")
    docker("stop", "--time", "30", container)
    try:
        state = inspect(container)["State"]
        assert state["ExitCode"] == 0
        assert '"event": "stopped"' in docker("logs", container).stderr
    finally:
        docker("start", container)
        with Client(stack.address()) as client:
            client.wait_until_ready(60)


def test_processes_that_end_are_not_left_behind(stack, worker):
    """There is no init: a worker reaps its engines itself."""
    with Client(stack.address()) as client:
        client.unload_model(MODEL)
        client.generate("Hello", model=MODEL, max_tokens=2)
    count = (
        "import pathlib; files = pathlib.Path('/proc').glob('[0-9]*/stat');"
        "print([file.read_text().split(') ')[1][0] for file in files].count('Z'))"
    )
    assert docker("exec", worker, "/opt/venv/bin/python", "-c", count).stdout.strip() == "0"
