"""Blocking work beside the event loop that nothing waits for when the process ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


async def in_background(work: Callable[[], T]) -> T:
    """Runs ``work`` in a daemon thread; returns or raises what it does.

    Unlike those of ``asyncio.to_thread``, the thread holds up neither the end of the loop nor that of the
    process. So work that may take minutes must bear being killed at any moment.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # handed to who waits
            _call_in(loop, _fail, outcome, error)
        else:
            _call_in(loop, _succeed, outcome, result)

    threading.Thread(target=run, name="background", daemon=True).start()
    return await outcome


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
        loop.call_soon_threadsafe(call, *args)


def _succeed(outcome: asyncio.Future[T], result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: asyncio.Future[T], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
