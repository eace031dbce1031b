"""Diplex's engine process without supervisor, gateway and gRPC: what those cost is measured against it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

from benchmarks.servers.process_tree import ProcessTree
from benchmarks.servers.server import Sizing, StreamFailed
from diplex.cli.lifeline import tied
from diplex.errors import DiplexError
from workers.runtime.engine.messages import EngineConfig, Piece
from workers.runtime.generation import Generation, Stopping, TokenIds
from workers.runtime.sampling import SamplingParams
from workers.runtime.supervisor.engine_process import EngineProcess
from workers.runtime.supervisor.spawner import Spawner


class Engine:
    """The engine at its socket pair, as the supervisor drives it.

    Args:
        folder: The prepared artefact.
    """

    name = "engine"

    def __init__(self, folder: Path) -> None:
        self.tree = ProcessTree()
        self._folder = folder
        self._process: EngineProcess | None = None

    async def start(self, sizing: Sizing) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        config = EngineConfig(self._folder, slots=sizing.clients, max_length=sizing.max_length)
        command = tied([sys.executable, "-m", "workers.onnx_worker.engine"])
        self._process, _ = await EngineProcess.start(Spawner(command), config, lambda _: None)
        self.tree = ProcessTree([self._process.pid])

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        """See :class:`~benchmarks.servers.server.Server`."""
        assert self._process is not None  # noqa: S101  # started
        generation = Generation(
            TokenIds(tuple(prompt)),
            SamplingParams(temperature=0),
            Stopping(max_tokens=tokens, min_tokens=tokens),
        )
        try:
            async with aclosing(self._process.generate(generation)) as events:
                async for event in events:
                    if isinstance(event, Piece) and event.token_ids:
                        yield len(event.token_ids)
        except DiplexError as error:
            raise StreamFailed(error.message) from error

    async def stop(self) -> None:
        """See :class:`~benchmarks.servers.server.Server`."""
        if self._process is not None:
            await self._process.stop()
        self._process = None
