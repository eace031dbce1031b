"""Workers that hang, vanish, restart or run out of memory: answers in time, and recovery without anybody."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from diplex import AsyncClient, Client, errors
from tests.compose.stack import MODEL, docker, eventually
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


CHILDREN = """
from pathlib import Path

def read(file):
    try:
        return file.read_text()
    except OSError:
        return ""  # it has just gone

def lives(process):
    return read(process / "cmdline") != ""  # of one that waits to be reaped it is empty

def children():
    for process in Path("/proc").glob("[0-9]*"):
        if read(process / "stat").rpartition(")")[2].split()[1:2] == ["1"] and lives(process):
            yield process
"""
"""Defines ``children``: the engines, which the worker has started."""

NAMES = CHILDREN + "print(*(process.name for process in children()))"

HOG = (
    CHILDREN
    + """
engines = list(children())
for process in engines:
    (process / "oom_score_adj").write_text("1000")
held = []
while all(map(lives, engines)):
    held.append(b"x" * 2**24)
"""
)
"""Takes memory until the kernel kills an engine."""


def run_in(worker, script, *, check=True):
    """Runs Python in a worker's container."""
    return docker("exec", worker, "/opt/venv/bin/python", "-c", script, check=check)


def test_worker_that_is_out_of_memory(stack, worker):
    """The kernel kills an engine: requests are answered or refused in time, and all comes back."""
    engines = set(run_in(worker, NAMES).stdout.split())
    assert engines
    # Whoever needs memory before that of the engine is free has the kernel end the hog too.
    hogging = threading.Thread(target=run_in, args=(worker, HOG), kwargs={"check": False})
    hogging.start()
    while hogging.is_alive():
        began = time.monotonic()
        with Client(stack.address(), patience=0) as client, suppress(errors.DiplexError):
            client.generate("Hello", model=MODEL, min_tokens=TOKENS, max_tokens=TOKENS, timeout=DEADLINE)
        assert time.monotonic() - began < DEADLINE + 1
    hogging.join()
    assert engines - set(run_in(worker, NAMES).stdout.split())
    recovers(stack, 120)
