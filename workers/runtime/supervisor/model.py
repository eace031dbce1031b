"""One model that a worker serves: prepared, loaded, restarted when its engine dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from enum import Enum
from typing import Final

import structlog

from diplex.errors import DiplexError, EngineCrashed, InternalError, Unavailable
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import Admitted, EngineConfig, Load, Piece, Ready
from workers.runtime.generation import Generation, ModelInput
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import PreparedArtefact
from workers.runtime.supervisor.background import in_background
from workers.runtime.supervisor.beat import Beat
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.engine_process import EngineProcess

_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
"""An engine that has lived so long starts a new count of failures."""
_MOST_FAILED_LOADS: Final = 5
"""Loads that may fail in a row before the model is given up."""

_LOG: Final = structlog.get_logger()

Prepare = Callable[[ModelEntry, str, Report], PreparedArtefact]
"""Finds or makes an entry's prepared artefact at a profile. Runs in a thread."""


class State(Enum):
    """Where a model is in its life."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"


class ServedModel:
    """A model from the moment in which it is asked for until it is unloaded.

    Args:
        entry: The catalogue's entry.
        profile: The precision profile.
        prepare: Makes the artefact when it isn't there.
        command: What runs an engine process.
        config: How engines are to run; the artefact's folder is filled in.
        beat: When the pieces of running streams go on.
        changes: Notified when :attr:`state`, :attr:`load` or :attr:`progress` change.
    """

    def __init__(
        self,
        entry: ModelEntry,
        profile: str,
        *,
        prepare: Prepare,
        command: Sequence[str],
        config: EngineConfig,
        beat: Beat,
        changes: Changes,
    ) -> None:
        self.entry = entry
        self.profile = profile
        self.state = State.LOADING
        self.progress = Progress(Phase.LOAD, 0)
        """The last that was heard of preparing and loading."""
        self.failure: DiplexError | None = None
        """Why the state is FAILED, or that the model was unloaded."""
        self.artefact: PreparedArtefact | None = None
        self.description: ModelDescription | None = None
        self.load = Load(0, 0, 0.0, 0.0)
        self.limits = Ready(config.slots, 0)
        """Slots and their length; known once the state has been READY."""
        self._prepare = prepare
        self._command = command
        self._config = config
        self._beat = beat
        self._changes = changes
        self._engine: EngineProcess | None = None
        self._life = asyncio.create_task(self._live(), name=f"model {entry.name}/{profile}")

    # ---------------------------------------------------------------------------------- requests

    async def generate(
        self, generation: Generation, *, whole: bool = False
    ) -> AsyncGenerator[Admitted | Piece]:
        """Runs a request, once the model is ready; see :meth:`EngineProcess.generate`.

        Raises:
            Unavailable: The model could not be loaded.
            DiplexError: What the engine refuses the request with.
        """
        engine = await self._ready_engine()
        async with aclosing(engine.generate(generation, whole=whole)) as events:
            async for event in events:
                yield event

    async def count(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, once the model is ready.

        Raises:
            Unavailable: The model could not be loaded.
            DiplexError: The input can't be encoded.
        """
        return await (await self._ready_engine()).count(model_input)

    async def ready(self) -> None:
        """Waits until the model is ready.

        Raises:
            DiplexError: Why it could not be loaded.
        """
        if await self._settled() is None and self.failure is not None:
            raise self.failure

    async def unload(self) -> None:
        """Stops the engine process; running requests, and those that wait for it to be loaded, fail."""
        self._life.cancel()
        await asyncio.wait([self._life])
        if self.failure is None:
            self.failure = Unavailable(f"{self.entry.name}/{self.profile} was unloaded")
        self._changes.notify()

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the engine process; 0 when there is none."""
        return self._engine.resident_bytes if self._engine else 0

    async def _ready_engine(self) -> EngineProcess:
        engine = await self._settled()
        if engine is None:
            why = self.failure.message if self.failure else "it is not loaded"
            raise Unavailable(f"{self.entry.name} can't answer: {why}") from self.failure
        return engine

    async def _settled(self) -> EngineProcess | None:
        """Waits until there is an engine or a failure; the engine if there is one."""
        seen = self._changes.count
        while self._engine is None and self.failure is None:
            seen = await self._changes.after(seen)
        return self._engine

    # -------------------------------------------------------------------------------------- life

    async def _live(self) -> None:
        try:
            report = self._reporter()
            self.artefact = await in_background(lambda: self._prepare(self.entry, self.profile, report))
            self.description = ModelDescription.load(self.artefact.folder)
            await self._keep_running(replace(self._config, folder=self.artefact.folder))
        except DiplexError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, who waits for the model must hear of it
            _LOG.exception("defect", model=self.entry.name)
            self._fail(InternalError(f"{type(error).__name__}: {error}"))

    def _fail(self, error: DiplexError) -> None:
        _LOG.error("model failed", model=self.entry.name, reason=error.reason, error=error.message)
        self.failure = error
        self._enter(State.FAILED)

    async def _keep_running(self, config: EngineConfig) -> None:
        failures = failed_loads = 0
        while True:
            began = time.monotonic()
            try:
                await self._run_engine(config)
                failed_loads = 0
            except EngineCrashed as error:
                failed_loads += 1
                if failed_loads >= _MOST_FAILED_LOADS:
                    raise
                _LOG.warning("engine died while loading", model=self.entry.name, error=error.message)
            failures = 0 if time.monotonic() - began > _HEALTHY_SECONDS else failures + 1
            self._enter(State.RESTARTING)
            await asyncio.sleep(_backoff(failures))

    async def _run_engine(self, config: EngineConfig) -> None:
        """One engine's life. Returns when it has died after it was ready.

        Raises:
            EngineCrashed: It died while it was loading.
            DiplexError: It can't load the model.
        """
        self._report(Progress(Phase.LOAD, 0, None, str(config.folder.name)))
        began = time.monotonic()
        engine, self.limits = await EngineProcess.start(self._command, config, self._on_load, self._beat)
        self._engine = engine
        self._enter(State.READY)
        _LOG.info(
            "model ready",
            model=self.entry.name,
            profile=self.profile,
            pid=engine.pid,
            seconds=round(time.monotonic() - began, 2),
            kv_tokens=self.limits.kv_tokens,
            max_stall=config.max_stall,
        )
        try:
            code = await engine.died()
            _LOG.warning("engine died", model=self.entry.name, pid=engine.pid, exit_code=code)
        finally:
            self._engine = None
            self.load = self.load._replace(busy=0, queued=0)
            await engine.stop()

    def _on_load(self, load: Load) -> None:
        noteworthy = (load.busy, load.queued) != (self.load.busy, self.load.queued)
        self.load = load
        if noteworthy:
            self._changes.notify()

    def _enter(self, state: State) -> None:
        self.state = state
        self._changes.notify()

    def _report(self, progress: Progress) -> None:
        self.progress = progress
        self._changes.notify()

    def _reporter(self) -> Report:
        """A report that may be called from any thread."""
        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody wants to know any longer
                loop.call_soon_threadsafe(self._report, progress)

        return report


def _backoff(failures: int) -> float:
    """Seconds before the next start: none after a first death, then doubling, with jitter."""
    if failures <= 1:
        return 0.0
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0**failures) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
