"""One model that a worker serves: prepared, loaded, restarted when its engine dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

import structlog

from diplex.errors import DiplexError, EngineCrashed, InternalError, ResourceExhausted, Unavailable
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import Admitted, EngineConfig, Load, Piece, Ready
from workers.runtime.generation import Generation, ModelInput, Stopping, TokenIds
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.sampling import SamplingParams
from workers.runtime.store import PreparedArtefact
from workers.runtime.supervisor.admission import Admission
from workers.runtime.supervisor.artefacts import Artefacts
from workers.runtime.supervisor.background import in_background
from workers.runtime.supervisor.beat import Beat
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.engine_process import EngineProcess
from workers.runtime.supervisor.footprint import Footprint, footprint
from workers.runtime.supervisor.residency import Resident
from workers.runtime.supervisor.terms import Terms

_FIRST_DELAY: Final = 0.25
_LONGEST_DELAY: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
"""An engine that has lived so long starts a new count of failures."""
_MOST_FAILED_LOADS: Final = 5
"""Loads that may fail in a row before the model is given up."""
_TOLERANCE: Final = 0.1
"""By how much a footprint may be off before that is logged."""

_WARM_UP: Final = Generation(TokenIds((0,)), SamplingParams(temperature=0), Stopping(max_tokens=2))
"""The first request of every engine: what the way of a request needs once is had before anybody waits."""

_LOG: Final = structlog.get_logger()


class State(Enum):
    """Where a model is in its life."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all models of a supervisor share."""

    artefacts: Artefacts
    command: Sequence[str]
    """What runs an engine process."""
    beat: Beat
    """When the pieces of running streams go on."""
    changes: Changes
    """Notified when a model's state, load, progress or use changes."""
    admission: Admission
    """Gives out memory."""


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
        self.terms = terms
        self.state = State.LOADING
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
        self.reserved = 0
        """Bytes of the budget that it has been given."""
        self.last_used = asyncio.get_running_loop().time()
        """When its last request ended, on the loop's clock."""
        self._uses = 0  # requests that wait for it or run
        self._waits_for: tuple[str, ...] = ()  # models that hold the memory that it needs
        self._shared = surroundings
        self._given_up = given_up
        self._engine: EngineProcess | None = None
        self._life = asyncio.create_task(self._live(), name=f"model {self.name}")

    @property
    def name(self) -> str:
        """Name and profile, as messages have them."""
        return f"{self.entry.name}/{self.profile}"

    # ---------------------------------------------------------------------------------- requests

    async def generate(
        self, generation: Generation, *, whole: bool = False
    ) -> AsyncGenerator[Admitted | Piece]:
        """Runs a request, once the model is ready; see :meth:`EngineProcess.generate`.

        Raises:
            Unavailable: The model could not be loaded.
            ResourceExhausted: There is no room for it.
            DiplexError: What the engine refuses the request with.
        """
        with self._used():
            engine = await self._ready_engine()
            async with aclosing(engine.generate(generation, whole=whole)) as events:
                async for event in events:
                    yield event

    async def count(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, once the model is ready.

        Raises:
            Unavailable: The model could not be loaded.
            ResourceExhausted: There is no room for it.
            DiplexError: The input can't be encoded.
        """
        with self._used():
            return await (await self._ready_engine()).count(model_input)

    async def loading(self) -> AsyncGenerator[Progress]:
        """How far preparing and loading are, at once and with every change, until they have ended somehow."""
        with self._used():
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
        self.reserved = 0
        self._shared.changes.notify()

    def keep(self) -> None:
        """Says that it was asked for by itself."""
        self.terms = replace(self.terms, lasting=True)

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the engine process; 0 when there is none."""
        return self._engine.resident_bytes if self._engine else 0

    @property
    def busy(self) -> bool:
        """Whether somebody needs it, or it is on its way to be ready."""
        return self._uses > 0 or self.state in {State.LOADING, State.RESTARTING}

    @property
    def resident(self) -> Resident:
        """Itself as the policy of residency sees it."""
        return Resident(
            self.name,
            self.reserved,
            busy=self.busy,
            pinned=self.terms.pinned,
            last_used=self.last_used,
            keep_alive=self.terms.keep_alive,
        )

    def waits(self, names: tuple[str, ...]) -> None:
        """Told by :class:`Admission` whose memory it waits for."""
        if names != self._waits_for:
            self._waits_for = names
            if names:
                self._report(
                    Progress(Phase.LOAD, 0, None, f"waits for memory until {' or '.join(names)} is idle")
                )
        self._drop_if_unwanted()

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Counts a request while it lasts."""
        self._uses += 1
        try:
            yield
        finally:
            self._uses -= 1
            self.last_used = asyncio.get_running_loop().time()
            if not self._uses:
                self._shared.changes.notify()
                self._drop_if_unwanted()

    def _drop_if_unwanted(self) -> None:
        if self._waits_for and not self._uses and not self.terms.lasting:
            self._given_up(self)

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
            config = replace(self.terms.config, folder=self.artefact.folder)
            needs = self._shared.artefacts.needs(self.artefact, self.description, config)
            self.predicted = footprint(needs, self.description, config, self.terms.share)
            await self._shared.admission.obtain(self, self.name, self.predicted.most)
            if self.terms.share is not None:
                config = self.predicted.configured(config)
            await self._keep_running(config)
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
        await self._shared.admission.obtain(self, f"converting {self.name}", size)
        try:
            return await artefacts.prepare(self.entry, self.profile, self._reporter())
        finally:
            self.reserved = 0
            self._shared.changes.notify()

    def _fail(self, error: DiplexError) -> None:
        _LOG.error("model failed", model=self.name, reason=error.reason, error=error.message)
        self.failure = error
        self.reserved = 0
        self._enter(State.FAILED)
        if not self.terms.lasting:
            self._given_up(self)

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
                _LOG.warning("engine died while loading", model=self.name, error=error.message)
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
        engine, limits = await EngineProcess.start(
            self._shared.command, config, self._on_load, self._shared.beat
        )
        try:
            self._report(Progress(Phase.WARM, 0, None, str(config.folder.name)))
            async with aclosing(engine.generate(_WARM_UP, whole=True)) as events:
                async for _ in events:
                    pass
            await self._check_footprint(engine, config)
            self.limits, self._engine = limits, engine
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
                most_bytes=self.reserved,
            )
            code = await engine.died()
            _LOG.warning("engine died", model=self.name, pid=engine.pid, exit_code=code)
        finally:
            self._engine = None
            self.load = self.load._replace(busy=0, queued=0)
            await engine.stop()

    async def _check_footprint(self, engine: EngineProcess, config: EngineConfig) -> None:
        """Takes what the engine really took, and asks for more if it was thought to take less.

        Raises:
            InsufficientMemory: It took more than there is.
        """
        self.loaded_bytes = engine.resident_bytes
        if self.predicted is None or self.artefact is None or not self.loaded_bytes:
            return
        self._shared.artefacts.measured(self.artefact, config, self.loaded_bytes)
        if abs(self.loaded_bytes - self.predicted.loaded) > _TOLERANCE * self.loaded_bytes:
            _LOG.warning(
                "footprint", model=self.name, predicted=self.predicted.loaded, loaded=self.loaded_bytes
            )
        most = self.predicted.measured(self.loaded_bytes).most
        if most > self.reserved:
            await self._shared.admission.obtain(self, self.name, most)
        else:
            self.reserved = most
            self._shared.changes.notify()

    def _on_load(self, load: Load) -> None:
        noteworthy = (load.busy, load.queued) != (self.load.busy, self.load.queued)
        self.load = load
        if noteworthy:
            self._shared.changes.notify()

    def _enter(self, state: State) -> None:
        self.state = state
        self._shared.changes.notify()

    def _report(self, progress: Progress) -> None:
        self.progress = progress
        self._shared.changes.notify()

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
