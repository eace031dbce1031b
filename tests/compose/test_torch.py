"""A torch worker that joins while traffic runs."""

from __future__ import annotations

import pytest

from diplex import AsyncClient, errors
from tests.compose.stack import TORCH_MODEL, docker, has_image, inspect, running
from tests.compose.test_stack import TestConfinement
from tests.compose.traffic import traffic

pytestmark = [pytest.mark.compose, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stack():
    if not has_image("torch-worker"):
        pytest.skip("the torch worker's image isn't built: make compose-test-full")
    with running("diplex-torch", ONNX_WORKER_CPUS="1", TORCH_WORKER_MEMORY="2g") as found:
        yield found


async def test_served_without_a_restart_of_the_gateway(stack):
    gateway = inspect(stack.container("gateway"))["State"]["StartedAt"]
    async with AsyncClient(stack.address()) as client, traffic(stack.address(), callers=2) as outcome:
        with pytest.raises(errors.BackendNotRunning):
            await client.generate("Hello", model=TORCH_MODEL)
        stack.compose("--profile", "torch", "up", "--detach", "--no-build", "--no-recreate")
        while True:
            try:
                answer = await client.generate("Hello", model=TORCH_MODEL, max_tokens=4, timeout=120)
            except errors.BackendNotRunning:
                await outcome.more(1)
            else:
                break
    assert answer.receipt.backend == "torch"
    assert not outcome.failures
    assert inspect(stack.container("gateway"))["State"]["StartedAt"] == gateway


class TestConfinementOfTorch(TestConfinement):
    @pytest.fixture
    def container(self, stack):
        return stack.container("torch-worker")

    def test_only_the_gateway_is_published_and_on_the_loopback(self, stack):
        ports = inspect(stack.container("torch-worker"))["NetworkSettings"]["Ports"]
        assert not any(ports.values())


def test_no_onnxruntime_beside_it(stack):
    find = "from importlib.util import find_spec; print(find_spec('onnxruntime'), find_spec('onnx'))"
    done = docker("exec", stack.container("torch-worker"), "/opt/venv/bin/python", "-c", find)
    assert done.stdout.split() == ["None", "None"]
