"""``diplex up`` with a fake gateway, and a worker that only sits there."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

PROGRAM = """
import sys
from diplex.cli import up, worker_module
from diplex.cli.processes import Command
from diplex.cli.terminal import reported

worker_module.require = lambda: None
worker_module.run = lambda *arguments: print("pulled", *arguments[1:], file=sys.stderr) or 0

class Plan(up.Plan):
    def commands(self, listen, folder):
        worker = "import os, signal; print('worker in', os.environ['HERE'], flush=True); signal.pause()"
        return (
            Command("worker", [sys.executable, "-c", worker]),
            Command("gateway", [sys.executable, *{gateway!r}, listen]),
        )

plan = Plan(
    {models!r}, "unix:{folder}/gw.sock", None, None, {sample!r}, "", True, {json_logs!r},
    http_listen="127.0.0.1:0",
)
with reported():
    code = up.run(plan)
sys.exit(code)
"""
FAKE_GATEWAY = ("-m", "tests.fake_gateway")


@pytest.fixture
def up(tmp_path):
    @contextmanager
    def start(gateway=FAKE_GATEWAY, sample="Where is Paris?", *, models=("Fake-1M",), json_logs=False):
        program = PROGRAM.format(
            gateway=gateway, folder=tmp_path, sample=sample, models=models, json_logs=json_logs
        )
        environment = {**os.environ, "TMPDIR": str(tmp_path), "HERE": "place", "COLUMNS": "200"}
        with subprocess.Popen(
            [sys.executable, "-c", program],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


def until(stream, text):
    """All lines of a stream up to the one that holds ``text``."""
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} did not come; what came is {lines}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_prepares_starts_answers_and_stops(up, tmp_path, number):
    with up() as process:
        said = until(process.stdout, "Ctrl-C stops")
        assert said.startswith("Paris is the capital of France.")
        assert f"diplex chat --address unix:{tmp_path}/gw.sock" in said
        assert re.search(r"^in the browser: http://127\.0\.0\.1:\d+/$", said, re.MULTILINE)
        process.send_signal(number)
        rest, logs = process.communicate(timeout=20)
    assert (process.returncode, rest) == (0, "")
    assert logs.startswith("pulled Fake-1M\n")
    assert "worker  │ worker in place" in logs
    assert "▸ Where is Paris?" in logs
    assert "Fake-1M int8 · onnx-1a2b" in logs
    assert list(tmp_path.glob("diplex-up-*")) == []


def test_a_child_that_can_not_start_is_told_with_its_last_lines(up):
    with up(gateway=("-c", "import sys; sys.exit('no such flag')")) as process:
        _, logs = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "error gateway exited with code 1 during start-up; its last lines:\n  no such flag" in logs


def test_a_model_that_can_not_be_loaded_ends_it_with_the_reason(up):
    with up(gateway=("-m", "tests.fake_gateway"), models=("Broken-7B",), sample=None) as process:
        _, logs = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "Broken-7B: no memory" in logs


def test_nothing_is_left_of_an_up_that_was_killed(up):
    with up(sample=None) as process:
        until(process.stdout, "Ctrl-C stops")
        children = psutil.Process(process.pid).children()
        assert len(children) == 2
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_json_logs_are_json_only(up):
    with up(sample=None, json_logs=True) as process:
        until(process.stderr, '"event": "ready"')
        process.send_signal(signal.SIGTERM)
        printed, logs = process.communicate(timeout=20)
    assert printed == ""
    assert all(line.startswith("{") for line in logs.splitlines())
