"""Workers that hang, vanish, restart or run out of memory: answers in time, and recovery without anybody."""

from __future__ import annotations

import time

import pytest

from diplex import AsyncClient, Client, errors
from tests.compose.stack import MODEL, docker, eventually, inspect
from tests.compose.traffic import TOKENS, traffic

pytestmark = [pytest.mark.compose, pytest.mark.timeout(300)]

DEADLINE = 4.0


def fails_in_time(stack):
    """A request to a worker that can't answer ends when its caller wants it to, with an error of ours."""
    with Client(stack.address(), patience=0) as client:
        began = time.monotonic()
        with pytest.raises(errors.DiplexError) as failed:
            client.generate("Hello", model=MODEL, min_tokens=TOKENS, max_tokens=TOKENS, timeout=DEADLINE)
        assert time.monotonic() - began < DEADLINE + 1
    assert isinstance(failed.value, errors.DeadlineExceeded | errors.Unavailable | errors.ResourceExhausted)


def recovers(stack, seconds=60):
    """Nobody does anything, and requests are answered again."""

    def answered():
        with Client(stack.address(), patience=0) as client:
            try:
                return client.generate("Hello", model=MODEL, max_tokens=3, timeout=10)
            except errors.DiplexError:
                return None

    eventually(answered, seconds)


def test_worker_that_hangs(stack, worker):
    docker("pause", worker)
    try:
        fails_in_time(stack)
    finally:
        docker("unpause", worker)
    recovers(stack)


async def test_stream_goes_on_behind_a_pause(stack, worker):
    """The worker was thought lost; the stream is continued without a gap."""
    async with AsyncClient(stack.address()) as client:
        wanted = (await client.generate("Once", model=MODEL, min_tokens=900, max_tokens=900, seed=1)).text
        text = ""
        async with client.stream("Once", model=MODEL, min_tokens=900, max_tokens=900, seed=1) as stream:
            async for delta in stream:
                if not text:
                    docker("pause", worker)
                    docker("unpause", worker)
                text += delta.text
    assert text == wanted


def test_worker_behind_a_broken_network(stack, worker):
    docker("network", "disconnect", stack.network, worker)
    try:
        fails_in_time(stack)
    finally:
        docker("network", "connect", "--alias", "onnx-worker", stack.network, worker)
    recovers(stack)


async def test_restart_loses_no_request(stack, worker):
    async with traffic(stack.address(), callers=3) as outcome:
        await outcome.more(3)
        docker("restart", "--time", "1", worker)
        await outcome.more(6)
    assert not outcome.failures


def test_worker_that_is_out_of_memory(stack, worker):
    """The kernel kills what took too much; whatever that was comes back, with what it may take now."""
    limit = inspect(worker)["HostConfig"]["Memory"]
    pids = "import pathlib; print(sorted(int(p.name) for p in pathlib.Path('/proc').glob('[0-9]*')))"

    def processes():
        done = docker("exec", worker, "/opt/venv/bin/python", "-c", pids, check=False)
        return done.stdout if done.returncode == 0 else ""

    kills = (
        "exec",
        worker,
        "/opt/venv/bin/python",
        "-c",
        "print(open('/sys/fs/cgroup/memory.events').read())",
    )
    starts, little = inspect(worker)["State"]["StartedAt"], 48 * 2**20
    docker("update", "--memory", str(little), "--memory-swap", str(little), worker, check=False)
    try:
        fails_in_time(stack)

        def was_killed():
            told = docker(*kills, check=False).stdout.split()
            counted = dict(zip(told[::2], told[1::2], strict=False))
            return int(counted.get("oom_kill", "0")) > 0 or inspect(worker)["State"]["StartedAt"] != starts

        eventually(was_killed)
    finally:
        docker("update", "--memory", str(limit), "--memory-swap", str(limit), worker)
    recovers(stack, 120)
