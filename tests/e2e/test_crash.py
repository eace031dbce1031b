"""Processes that are killed or told to end while streams run through them."""

import queue
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest

from diplex import errors
from diplex.client import Health, RawPrompt
from tests.e2e import services
from tests.e2e.services import ENDLESS

TOKENS = 200
LONG = {"max_tokens": TOKENS, "temperature": 0}
"""Some seconds of decoding."""
LOADED = 60.0
"""Seconds that a model may take to be there again."""


@pytest.fixture(scope="module")
def fragile(default_model, tmp_path_factory):
    """A stack of these tests' own, which put its parts back when they have broken them."""
    with services.stack(tmp_path_factory.mktemp("fragile"), "--model", default_model) as both:
        yield both


@contextmanager
def running_streams(client, count):
    """So many streams under way; yields futures of what each comes to."""
    begun = queue.SimpleQueue()

    def read_to_the_end():
        with client.stream(RawPrompt(ENDLESS), **LONG) as stream:
            next(stream)
            begun.put(None)
            return stream.collect()

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(read_to_the_end) for _ in range(count)]
        for _ in futures:
            begun.get(timeout=30)
        yield futures


def went_on(generation):
    """Whether a generation is whole, and took two attempts."""
    receipt = generation.receipt
    return (receipt.usage.completion_tokens, receipt.attempts) == (TOKENS, 2)


def answered(client):
    generation = client.generate(RawPrompt(ENDLESS), max_tokens=4, temperature=0, timeout=LOADED)
    return generation.receipt.usage.completion_tokens == 4


def test_the_engine_is_killed(fragile, figure):
    engine = fragile.engine()
    with fragile.client() as client:
        with running_streams(client, 4) as streams:
            killed = time.monotonic()
            engine.kill()
            generations = [stream.result(LOADED) for stream in streams]
        assert all(went_on(generation) for generation in generations)
        assert len({generation.receipt.seed for generation in generations}) == 4
    restarted = fragile.engine()
    assert restarted.pid != engine.pid
    assert fragile.worker.process.poll() is None
    figure(
        "the engine is killed: four streams went on to their end in",
        f"{time.monotonic() - killed:.2f} s",
    )


def test_the_engine_is_killed_under_a_whole_answer(fragile):
    engine = fragile.engine()
    with (
        fragile.client() as client,
        services.watching(fragile.worker.address) as watch,
        ThreadPoolExecutor(1) as pool,
    ):
        answer = pool.submit(client.generate, RawPrompt(ENDLESS), **LONG)
        watch.until_busy(1)
        engine.kill()
        assert went_on(answer.result(LOADED))


def test_the_worker_is_killed(default_model, tmp_path, figure):
    socket = f"unix:{tmp_path / 'worker.sock'}"
    with (
        services.stack(tmp_path, "--model", default_model) as stack,
        stack.client() as client,
        services.Client(stack.address, patience=0) as hasty,
    ):
        engine = stack.engine()
        with running_streams(client, 2) as streams:
            killed = time.monotonic()
            stack.worker.process.kill()
            engine.wait(10)  # it does not outlive its supervisor
            stack.gateway.entry("worker lost")
            with pytest.raises(errors.Unavailable):
                hasty.generate(RawPrompt(ENDLESS), max_tokens=1, timeout=LOADED)
            assert client.health(timeout=10) is Health.NOT_SERVING
            with services.worker(socket, "--model", default_model):
                generations = [stream.result(LOADED) for stream in streams]
                assert all(went_on(generation) for generation in generations)
                assert answered(client)
    figure("the worker is killed: two streams went on to their end in", f"{time.monotonic() - killed:.2f} s")


def test_a_gateway_that_is_told_to_end_lets_a_stream_finish(fragile):
    with services.gateway(fragile.worker.address) as gateway:
        with services.Client(gateway.address) as client:
            client.wait_until_ready(LOADED)
            with client.stream(RawPrompt(ENDLESS), max_tokens=150, temperature=0) as stream:
                next(stream)
                gateway.send(signal.SIGTERM)
                gateway.entry("draining")
                generation = stream.collect()

        assert generation.receipt.usage.completion_tokens == 150
        assert gateway.wait() == 0


def test_a_worker_told_to_end_with_its_engine_lets_a_stream_finish(tmp_path, default_model):
    """Some process managers send SIGTERM to the supervisor and to its engines alike."""
    with services.stack(tmp_path, "--model", default_model) as stack, stack.client() as client:
        client.wait_until_ready(LOADED)
        engine = stack.engine()
        with client.stream(RawPrompt(ENDLESS), max_tokens=150, temperature=0) as stream:
            next(stream)
            engine.terminate()
            stack.worker.send(signal.SIGTERM)
            generation = stream.collect()
        assert generation.receipt.usage.completion_tokens == 150
        assert stack.worker.wait() == 0
        engine.wait(10)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda it: it.name)
def test_up_leaves_no_process_behind(default_model, tmp_path, number):
    argv = [
        sys.executable,
        "-m",
        "diplex.cli",
        "up",
        "--listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ]
    argv += ["--model", default_model]
    env = services.environment(TMPDIR=str(tmp_path))
    with services.Service([*argv, "--log-format", "json"], env=env) as up:
        address = up.entry("ready")["address"]
        with services.Client(address) as client:
            assert answered(client)
        below = psutil.Process(up.pid).children(recursive=True)
        commands = " ".join(part for process in below for part in process.cmdline())
        assert all(part in commands for part in ("-m gateway", "onnx_worker serve", "onnx_worker.engine"))

        up.send(number)
        code = up.wait()

    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert code == (-number if number is signal.SIGKILL else 0)
    if number is not signal.SIGKILL:  # whose folder the next `up` removes
        assert list(tmp_path.iterdir()) == []
