"""``diplex bench`` as a user runs it, against a gateway without a model."""

import json
import os
import signal
import subprocess
import sys

import pytest

from diplex.cli.terminal import ExitCode
from diplex.errors import QueueFull
from tests.fake_gateway import FakeGateway

COMMAND = (sys.executable, "-m", "diplex.cli", "bench")


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def environment(gateway):
    with gateway.in_thread() as address:
        yield {**os.environ, "DIPLEX_ADDRESS": address}


def bench(environment, *arguments):
    return subprocess.run(
        [*COMMAND, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_a_table_without_escape_codes_when_piped(environment):
    done = bench(environment, "--requests", "10", "--clients", "2", "--max-tokens", "5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "10 requests in" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[4:5]] == ["ms"]
    assert "first token" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_and_a_plot(environment, tmp_path):
    done = bench(environment, "-n", "6", "--rate", "200", "--json", "--plot", str(tmp_path / "a.svg"))
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["tokens"], figures["rate"]) == (6, 30, 200)
    assert figures["generator_cores"] > 0
    assert (tmp_path / "a.svg").is_file() or "pip install matplotlib" in done.stderr


def test_ctrl_c_shows_what_was_measured(gateway, environment):
    with subprocess.Popen(
        [*COMMAND, "--clients", "2", "--duration", "60"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        while len(gateway.requests) < 40:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=10)[0]
    assert process.returncode == ExitCode.INTERRUPTED
    assert "requests in" in told
    assert "tokens/s" in told


def test_a_gateway_that_refuses_all_says_why(gateway, environment):
    gateway.error = QueueFull("16 wait already")
    done = bench(environment, "--requests", "3")
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, "")
    assert "16 wait already" in done.stderr
