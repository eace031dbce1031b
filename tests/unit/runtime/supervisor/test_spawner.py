"""Engine processes, and the one that is started ahead."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from workers.runtime.supervisor.spawner import Spawner

WAITING = (
    sys.executable,
    "-c",
    "import socket, sys; socket.socket(fileno=int(sys.argv[1])).recv(1)",
)
"""Ends when its socket does."""


@pytest.fixture
async def spawner():
    spawner = Spawner(WAITING)
    yield spawner
    await spawner.close()


async def test_the_spare_is_taken_first_and_once(spawner):
    await spawner.keep_spare()
    await spawner.keep_spare()
    assert spawner.has_spare
    assert spawner.spare_bytes > 0
    spare = await spawner.spawn()
    assert not spawner.has_spare
    assert spawner.spare_bytes == 0
    another = await spawner.spawn()
    assert spare.lives
    assert another.lives
    assert spare.process.pid != another.process.pid
    await spare.stop()
    await another.stop()
    assert not spare.lives


async def test_a_spare_that_has_died_is_replaced(spawner):
    await spawner.keep_spare()
    before = await spawner.spawn()
    os.kill(before.process.pid, signal.SIGKILL)
    await before.process.wait()
    spawner._spare = before  # it died while it stood ready
    assert not spawner.has_spare
    child = await spawner.spawn()
    assert child.lives
    await child.stop()


async def test_what_is_not_taken_ends(spawner):
    await spawner.keep_spare()
    spare = spawner._spare  # nobody else is given it
    await spawner.close()
    assert spare.process.returncode == 0


async def test_a_command_that_can_not_be_run(tmp_path):
    spawner = Spawner((str(tmp_path / "none"),))
    with pytest.raises(FileNotFoundError):
        await spawner.spawn()
