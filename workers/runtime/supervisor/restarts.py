"""What dies is started again: at once the first time, then after pauses that grow, and not for ever."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from diplex.errors import EngineCrashed

_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
"""An engine that has lived so long starts a new count of failures."""
_MOST_FAILED_LOADS: Final = 5
"""Loads that may fail in a row before the model is given up."""

_LOG: Final = structlog.get_logger()


async def keep_running(name: str, run: Callable[[], Awaitable[None]], restarting: Callable[[], None]) -> None:
    """Runs engines, one after the other, until one can't be loaded.

    Args:
        name: The model's, for the log.
        run: One engine's life; returns when it has died after it was ready.
        restarting: Called before each further one.

    Raises:
        EngineCrashed: Several in a row died while they were loading.
        DiplexError: What else ``run`` raises.
    """
    failures = failed_loads = 0
    while True:
        began = time.monotonic()
        try:
            await run()
            failed_loads = 0
        except EngineCrashed as error:
            failed_loads += 1
            if failed_loads >= _MOST_FAILED_LOADS:
                raise
            _LOG.warning("engine died while loading", model=name, error=error.message)
        failures = 0 if time.monotonic() - began > _HEALTHY_SECONDS else failures + 1
        restarting()
        await asyncio.sleep(_backoff(failures))


def _backoff(failures: int) -> float:
    """Seconds before the next start: none after a first death, then doubling, with jitter."""
    if failures <= 1:
        return 0.0
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
