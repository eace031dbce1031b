"""One model that a worker serves: prepared, loaded, restarted when its engine dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from enum import Enum
from typing import Final

import structlog

from diplex.errors import DiplexError, InternalError, ResourceExhausted, Unavailable
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import Admitted, EngineConfig, Load, Piece, Ready
from workers.runtime.generation import Generation, ModelInput
from workers.runtime.pace import Pace
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import PreparedArtefact
from workers.runtime.supervisor.background import in_background
from workers.runtime.supervisor.engine_process import EngineProcess
from workers.runtime.supervisor.footprint import Footprint, footprint
from workers.runtime.supervisor.restarts import keep_running
from workers.runtime.supervisor.surroundings import Surroundings
from workers.runtime.supervisor.tenancy import Tenancy
from workers.runtime.supervisor.terms import Terms
from workers.runtime.supervisor.warming import warm_up

_TOLERANCE: Final = 0.1
"""By how much a footprint may be off before that is logged."""

_LOG: Final = structlog.get_logger()


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
        terms: How it is served.
        surroundings: What it shares with other models.
        given_up: Called when nobody waits any longer for a model that waits for memory, or when it has
            failed, unless the terms are lasting.
    """

    def __init__(
        self,
        entry: ModelEntry,
        profile: str,
        terms: Terms,
        surroundings: Surroundings,
        given_up: Callable[[ServedModel], None],
    ) -> None:
        self.entry = entry
        self.profile = profile
        self.state = State.LOADING
        self._pace = Pace()
        self.progress = Progress(Phase.LOAD, 0)
        """The last that was heard of preparing and loading."""
        self.failure: DiplexError | None = None
        """Why the state is FAILED, or that the model was unloaded."""
        self.artefact: PreparedArtefact | None = None
        self.description: ModelDescription | None = None
        self.load = Load(0, 0, 0.0, 0.0)
        self.limits = Ready(terms.config.slots, 0)
        """Slots and their length; known once the state has been READY."""
        self.predicted: Footprint | None = None
        """What it was thought to take, before it was loaded."""
        self.loaded_bytes = 0
        """Resident memory of its engine once it was loaded and warm; 0 before."""
        self.tenancy: Final = Tenancy(
            self.name,
            terms,
            on_the_way=lambda: self.state in {State.LOADING, State.RESTARTING},
            waits=lambda reason: self._report(Progress(Phase.LOAD, 0, None, reason)),
            idle=surroundings.changes.notify,
            unwanted=lambda: given_up(self),
        )
        """Its claim on memory, and its terms."""
        self._shared = surroundings
        self._given_up = given_up
        self._engine: EngineProcess | None = None
        self._life = asyncio.create_task(self._live(), name=f"model {self.name}")

    @property
    def name(self) -> str:
        """Name and profile, as messages have them."""
        return f"{self.entry.name}/{self.profile}"

    @property
    def occupied(self) -> bool:
        """Whether it is being loaded, or has requests."""
        return self.state is not State.FAILED and (
            self.state is not State.READY or self.load.busy + self.load.queued > 0
        )

    # ---------------------------------------------------------------------------------- requests

    async def generate(self, generation: Generation) -> AsyncGenerator[Admitted | Piece]:
        """Runs a request, once the model is ready; see :meth:`EngineProcess.generate`.

        Raises:
            Unavailable: The model could not be loaded.
            ResourceExhausted: There is no room for it.
            DiplexError: What the engine refuses the request with.
        """
        with self.tenancy.used():
            engine = await self._ready_engine()
            async with aclosing(engine.generate(generation)) as events:
                async for event in events:
                    yield event

    async def count(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, once the model is ready.

        Raises:
            Unavailable: The model could not be loaded.
            ResourceExhausted: There is no room for it.
            DiplexError: The input can't be encoded.
        """
        with self.tenancy.used():
            return await (await self._ready_engine()).count(model_input)

    async def loading(self) -> AsyncGenerator[Progress]:
        """How far preparing and loading are, at once and with every change, until they have ended somehow."""
        with self.tenancy.used():
            while self._engine is None and self.failure is None:
                seen, told = self._shared.changes.count, self.progress
                yield told
                while self.progress is told and self._engine is None and self.failure is None:
                    seen = await self._shared.changes.after(seen)

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
            self.failure = Unavailable(f"{self.name} was unloaded", retry_after=0.0)
        self.tenancy.reserved = 0
        self._shared.changes.notify()

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the engine process; 0 when there is none."""
        return self._engine.resident_bytes if self._engine else 0

    async def _ready_engine(self) -> EngineProcess:
        engine = await self._settled()
        if engine is None:
            if isinstance(self.failure, ResourceExhausted):
                raise type(self.failure)(self.failure.message, metadata=self.failure.metadata)
            why = self.failure.message if self.failure else "it is not loaded"
            raise Unavailable(f"{self.entry.name} can't answer: {why}") from self.failure
        return engine

    async def _settled(self) -> EngineProcess | None:
        """Waits until there is an engine or a failure; the engine if there is one."""
        seen = self._shared.changes.count
        while self._engine is None and self.failure is None:
            seen = await self._shared.changes.after(seen)
        return self._engine

    # -------------------------------------------------------------------------------------- life

    async def _live(self) -> None:
        try:
            self.artefact = await self._prepared()
            self.description = ModelDescription.load(self.artefact.folder)
            config = replace(self.tenancy.terms.config, folder=self.artefact.folder)
            needs = self._shared.artefacts.needs(self.artefact, self.description, config)
            self.predicted = footprint(needs, self.description, config, self.tenancy.terms.share)
            await self._shared.admission.obtain(self.tenancy, self.predicted.most)
            if self.tenancy.terms.share is not None:
                config = self.predicted.configured(config)
            await keep_running(
                self.name, lambda: self._run_engine(config), lambda: self._enter(State.RESTARTING)
            )
        except DiplexError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, who waits for the model must hear of it
            _LOG.exception("defect", model=self.name)
            self._fail(InternalError(f"{type(error).__name__}: {error}"))

    async def _prepared(self) -> PreparedArtefact:
        """The artefact, made within the budget if it isn't there."""
        artefacts = self._shared.artefacts
        found = await in_background(lambda: artefacts.find(self.entry, self.profile))
        if found is not None:
            return found
        size = artefacts.preparing_bytes(self.entry, self.profile)
        await self._shared.admission.obtain(self.tenancy, size, "converting ")
        try:
            return await artefacts.prepare(self.entry, self.profile, self._reporter())
        finally:
            self.tenancy.reserved = 0
            self._shared.changes.notify()

    def _fail(self, error: DiplexError) -> None:
        _LOG.error("model failed", model=self.name, reason=error.reason, error=error.message)
        self.failure = error
        self.tenancy.reserved = 0
        self._enter(State.FAILED)
        if not self.tenancy.terms.lasting:
            self._given_up(self)

    async def _run_engine(self, config: EngineConfig) -> None:
        """One engine's life. Returns when it has died after it was ready.

        Raises:
            EngineCrashed: It died while it was loading.
            DiplexError: It can't load the model.
        """
        began, folder = time.monotonic(), config.folder.name
        expected = self.predicted.loaded if self.predicted else None

        def growing(resident: int) -> None:
            self._report(Progress(Phase.LOAD, min(resident, expected or resident), expected, folder))

        growing(0)
        engine, limits = await EngineProcess.start(self._shared.spawner, config, self._on_load, growing)
        try:
            self._report(Progress(Phase.WARM, 0, None, folder))
            await warm_up(engine)
            self._check_footprint(engine, config)
            self.limits, self._engine = limits, engine
            self.tenancy.touch()
            self._enter(State.READY)
            _LOG.info(
                "model ready",
                model=self.entry.name,
                profile=self.profile,
                pid=engine.pid,
                seconds=round(time.monotonic() - began, 2),
                kv_tokens=self.limits.kv_tokens,
                max_stall=config.max_stall,
                predicted_bytes=self.predicted.loaded if self.predicted else 0,
                loaded_bytes=self.loaded_bytes,
                most_bytes=self.tenancy.reserved,
            )
            code = await engine.died()
            _LOG.warning("engine died", model=self.name, pid=engine.pid, exit_code=code)
        finally:
            self._engine = None
            self.load = self.load._replace(busy=0, queued=0)
            await engine.stop()

    def _check_footprint(self, engine: EngineProcess, config: EngineConfig) -> None:
        """Takes what the engine really took in the place of what it was thought to take."""
        self.loaded_bytes = engine.resident_bytes
        if self.predicted is None or self.artefact is None or not self.loaded_bytes:
            return
        self._shared.artefacts.measured(self.artefact, config, self.loaded_bytes)
        if abs(self.loaded_bytes - self.predicted.loaded) > _TOLERANCE * self.loaded_bytes:
            _LOG.warning(
                "footprint", model=self.name, predicted=self.predicted.loaded, loaded=self.loaded_bytes
            )
        most = self.predicted.measured(self.loaded_bytes).most
        # Not by way of the admission, whose turn may be a load's that waits for this one.
        self.tenancy.reserved = most

    def _on_load(self, load: Load) -> None:
        noteworthy = (load.busy, load.queued) != (self.load.busy, self.load.queued)
        self.load = load
        if noteworthy:
            self._shared.changes.notify()

    def _enter(self, state: State) -> None:
        self.state = state
        self._shared.changes.notify()

    def _report(self, progress: Progress) -> None:
        self.progress = self._pace.timed(progress)
        self._shared.changes.notify()

    def _reporter(self) -> Report:
        """A report that may be called from any thread."""
        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody wants to know any longer
                loop.call_soon_threadsafe(self._report, progress)

        return report
