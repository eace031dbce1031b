"""The first request of every engine: what the way of a request needs once is had before anybody waits."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from workers.runtime.generation import Generation, Output, Stopping, TokenIds
from workers.runtime.sampling import SamplingParams
from workers.runtime.supervisor.engine_process import EngineProcess

_REQUEST: Final = Generation(
    TokenIds((0,)), SamplingParams(temperature=0), Stopping(max_tokens=2), output=Output(whole=True)
)


async def warm_up(engine: EngineProcess) -> None:
    """Runs the request.

    Raises:
        EngineCrashed: The engine died of it.
    """
    async with aclosing(engine.generate(_REQUEST)) as events:
        async for _ in events:
            pass
