from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from workers.runtime.supervisor.background import in_background


async def test_returns_what_the_work_returns():
    names = []
    assert await in_background(lambda: names.append(threading.current_thread().name) or 5) == 5
    assert names == ["background"]


async def test_raises_what_the_work_raises():
    with pytest.raises(ZeroDivisionError):
        await in_background(lambda: 1 // 0)


async def test_can_be_abandoned():
    gate = threading.Event()
    work = asyncio.create_task(in_background(lambda: gate.wait(10)))
    await asyncio.wait([work], timeout=0)
    work.cancel()
    await asyncio.wait([work])
    assert work.cancelled()
    gate.set()


def test_does_not_hold_up_the_end():
    program = """
import asyncio, threading
from workers.runtime.supervisor.background import in_background
async def main():
    work = asyncio.create_task(in_background(threading.Event().wait))
    await asyncio.wait([work], timeout=0)
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=30)
