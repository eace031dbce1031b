"""``make run`` in a fresh clone, with a store of its own: what the first screen of the README promises."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.e2e import services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_SECONDS = 600
AGAIN_SECONDS = 20
"""Generous: it takes a few."""


@dataclass(frozen=True)
class Clone:
    """A clone of the repository's HEAD, and the variables that keep its run to itself."""

    folder: Path
    home: Path

    def environment(self, **values):
        return services.environment(
            DIPLEX_HOME=str(self.home), DIPLEX_LISTEN="127.0.0.1:0", PYTHONUNBUFFERED="1", **values
        )

    def generate(self, address, *arguments):
        done = subprocess.run(
            [self.folder / ".venv" / "bin" / "diplex", "generate", *arguments],
            cwd=self.folder,
            env=self.environment(DIPLEX_ADDRESS=address),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    parent = tmp_path_factory.mktemp("clone")
    subprocess.run(
        ["git", "clone", "--quiet", services.ROOT, parent / "diplex"],  # noqa: S607
        check=True,
        timeout=60,
    )
    return Clone(parent / "diplex", parent / "home")


@contextmanager
def make_run(clone, seconds):
    """``make run``, once it has said that it is ready; yields it, its address, and how long that took."""
    began = time.monotonic()
    process = services.Service([shutil.which("make"), "run"], env=clone.environment(), cwd=clone.folder)
    with process as run:
        line = run.line(lambda line: line.startswith("ready at "), timeout=seconds)
        took = time.monotonic() - began
        run.line(lambda line: "Ctrl-C stops" in line)
        yield run, line.split()[2], took


def interrupted(run):
    """Ctrl-C, which a terminal sends to all of its foreground processes; returns those that are left."""
    make = psutil.Process(run.pid)
    all_of_them = [make, *make.children(recursive=True)]
    for process in all_of_them:
        if process.pid != run.pid and os.getpgid(process.pid) == os.getpgid(run.pid):
            process.send_signal(signal.SIGINT)
    run.send(signal.SIGINT)
    run.wait()
    return psutil.wait_procs(all_of_them[1:], timeout=30)[1]


@pytest.fixture(scope="module")
def first_run(clone):
    """The first run of all, ended again: what it printed, answered and left, and how long it took."""
    with make_run(clone, FIRST_SECONDS) as (run, address, seconds):
        answer = clone.generate(address, "--temperature", "0", "What is the capital of France?")
        left = interrupted(run)
    return run.log, answer, left, seconds


def test_the_first_run(first_run, figure):
    log, answer, left, seconds = first_run

    sample, receipt = log.index("What is the capital of France?"), log.index("tok/s")
    assert sample < log.index("Paris", sample) < receipt < log.index("ready at ")
    assert "diplex generate" in log[receipt:]
    assert "diplex chat" in log[receipt:]
    assert "Paris" in answer
    assert left == []
    figure("`make run` in a fresh clone is ready after", f"{seconds:.0f} s")


def test_a_second_run_is_ready_soon(clone, first_run, figure):
    prepared = files(clone.home)

    with make_run(clone, AGAIN_SECONDS) as (run, address, seconds):
        answer = clone.generate(address, "--json", "--temperature", "0", "What is the capital of France?")
        left = interrupted(run)

    assert "Paris" in answer
    assert left == []
    assert seconds < AGAIN_SECONDS
    assert files(clone.home) == prepared  # nothing was downloaded or converted again
    figure("a second `make run` is ready after", f"{seconds:.1f} s")


def files(folder):
    """Every file of size, with the time when it was written; but what each load measures anew."""
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size and path.parent.name != "measured"
    }
