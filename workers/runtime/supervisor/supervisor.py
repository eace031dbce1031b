"""All models of a worker by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from diplex.errors import (
    DiplexError,
    Draining,
    ModelNotFound,
    ResourceExhausted,
    Unavailable,
    UnsupportedModel,
)
from workers.runtime.catalogue import Catalogue, ModelEntry, SourceFolder
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.admission import Admission, own_bytes
from workers.runtime.supervisor.artefacts import Artefacts
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.model import ServedModel, State
from workers.runtime.supervisor.names import Names
from workers.runtime.supervisor.residency import expired, next_expiry
from workers.runtime.supervisor.spawner import Spawner
from workers.runtime.supervisor.surroundings import Surroundings
from workers.runtime.supervisor.tenancy import Tenancy
from workers.runtime.supervisor.terms import ServingConfig, terms_of
from workers.runtime.supervisor.unloaded import Shelf, UnloadedModel

_RETRY_SECONDS: Final = 10.0
"""How long a model that could not be loaded for a lasting reason isn't tried again."""

_OWN_GROWTH: Final = 64 * 2**20
"""What the worker's own process may come to take beyond what it does at its start, for connections and
requests under way. Models that divide the budget to the last byte would not fit it a second later."""

_SPARE_BYTES: Final = 384 * 2**20
"""What a spare engine may take: with torch and transformers imported it is 340 MiB."""
_QUIET_SECONDS: Final = 1.0
"""Without any change after which a spare engine is started."""

_LOG: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """What a supervisor runs its engines with."""

    backend: str
    """Name of the backend in the catalogue, as ``onnx``."""
    command: Sequence[str]
    """What runs an engine process; the descriptor of its socket is appended."""
    engine: EngineConfig
    """How engines run; the folder is each model's own."""
    serving: ServingConfig = field(default_factory=ServingConfig)
    """How memory is shared, and which models stay."""
    spare_engine: bool = False
    """Whether an engine process is started ahead, so that the next load need not wait for its imports."""


class Supervisor:
    """Loads, finds and unloads models. Used in one event loop."""

    def __init__(self, config: SupervisorConfig, catalogue: Catalogue, artefacts: Artefacts) -> None:
        self.changes = Changes()
        """Notified whenever the state of a model changes."""
        self.draining = False
        """Set once no new requests are taken."""
        self._config = config
        self._names = Names(catalogue, config.backend)
        self._models: dict[tuple[str, str], ServedModel] = {}  # (canonical name, profile) -> model
        self._leaving: set[ServedModel] = set()  # being unloaded; their memory is not free yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._refusals: dict[tuple[str, str], tuple[float, DiplexError]] = {}  # key -> when and why it failed
        self._answered = config.serving.starts_empty  # whether a model has ever been ready, or need not be
        self._spawner = Spawner(config.command)
        self._share = config.serving.share(
            own_bytes() + _OWN_GROWTH + (_SPARE_BYTES if config.spare_engine else 0)
        )
        self._shelf = Shelf(artefacts, config.engine, self._share)
        admission = Admission(
            config.serving.memory_budget,
            self._tenants,
            self._evict,
            self.changes,
            lambda: own_bytes() + self._spawner.spare_bytes,
        )
        self._shared = Surroundings(artefacts, self._spawner, self.changes, admission)

    @property
    def backend(self) -> str:
        """Name of the backend that the engines are of."""
        return self._config.backend

    @property
    def memory_budget(self) -> int | None:
        """Bytes that all processes may take together; ``None`` for no limit."""
        return self._config.serving.memory_budget

    @property
    def models(self) -> Sequence[ServedModel]:
        """Every model that is loaded or being loaded."""
        return tuple(self._models.values())

    @property
    def offered(self) -> Sequence[ServedModel | UnloadedModel]:
        """Every model that requests may name; of one model's profiles the default first."""
        if not self._config.serving.on_demand:
            return self.models
        known = self._names.known
        keys = {(entry.name, profile) for entry, profile in known}
        others = [model for key, model in self._models.items() if key not in keys]
        return [*(self._offer(entry, profile) for entry, profile in known), *others]

    @property
    def unserved(self) -> Sequence[ModelEntry]:
        """Models that the catalogue has for other backends only."""
        return self._names.unserved

    @property
    def ready(self) -> bool:
        """Whether a request can be answered, by a model that is loaded or by loading one."""
        loaded = any(model.state is State.READY for model in self._models.values())
        self._answered = self._answered or loaded
        return not self.draining and (loaded or (self._answered and self._config.serving.on_demand))

    def load(self, name: str, profile: str | None = None) -> ServedModel:
        """The model of that name, which begins to load if it wasn't, or had failed to; doesn't wait for it.

        Raises:
            Draining: The worker takes nothing new.
            ModelNotFound: The catalogue doesn't have it, or not at that profile.
            UnsupportedModel: The catalogue has it for other backends only, or this one can't serve it.
        """
        self._refuse_while_draining()
        entry, wanted = self._names.resolve(name, profile)
        return self._load(entry, wanted or self._names.default(entry), lasting=True)

    def serving(self, name: str, profile: str | None = None) -> ServedModel:
        """The model for a request: the loaded, or loading, one of that name; else it begins to load.

        When no profile is named the default one if it is loaded, else any that is, else the default.

        Raises:
            ModelNotFound: The catalogue doesn't have it; or it isn't loaded and isn't to be for a request.
            Draining: The worker takes no new requests.
            UnsupportedModel: The backend can't serve it, or it would have to be downloaded from a place whose
                bytes nobody has verified.
            DiplexError: It could not be loaded a moment ago.
        """
        self._refuse_while_draining()
        entry, wanted = self._names.resolve(name, profile)
        model = self._loaded(entry, wanted)
        if model is not None and (model.state is not State.FAILED or model.tenancy.terms.lasting):
            return model
        if not self._config.serving.on_demand:
            named = f"{entry.name}/{wanted}" if wanted else entry.name
            raise ModelNotFound(f"{named} is not loaded on this worker", metadata={"model": name})
        key = (entry.name, wanted or self._names.default(entry))
        self._refuse_what_just_failed(key)
        self._refuse_what_cannot_be(entry)
        self._refuse_what_nobody_pulled(entry, key[1])
        return self._load(entry, key[1], lasting=False)

    async def unload(self, name: str, profile: str | None = None) -> None:
        """Stops a model's engine process, or its being loaded; returns once the memory is free.

        Raises:
            ModelNotFound: It isn't loaded here.
        """
        entry, wanted = self._names.resolve(name, profile)
        model = self._loaded(entry, wanted)
        if model is None:
            named = f"{entry.name}/{wanted}" if wanted else entry.name
            raise ModelNotFound(f"{named} is not loaded on this worker", metadata={"model": name})
        await self._drop(model)

    def replace_catalogue(self, catalogue: Catalogue) -> None:
        """Takes another catalogue. Models whose entry has changed go once they are idle."""
        self._names = Names(catalogue, self.backend)
        self._shelf.clear()
        self._refusals.clear()
        self.changes.notify()

    async def unload_what_is_over(self) -> None:
        """Unloads idle models whose time is over, or whose entry has changed; never ends."""
        now = asyncio.get_running_loop().time
        while True:
            seen = self.changes.count
            residents = [model.tenancy.resident for model in self._models.values() if model.tenancy.reserved]
            over = {*expired(residents, now()), *self._outdated()}
            for model in [each for each in self.models if each.name in over]:
                await self._let_go(model)
            soonest = next_expiry(residents)
            changed = asyncio.ensure_future(self.changes.after(seen))
            await asyncio.wait((changed,), timeout=None if soonest is None else max(soonest - now(), 0.0))
            changed.cancel()

    async def keep_spare_engine(self) -> None:
        """Sees to it that an engine process stands ready once nothing was to do for a while; never ends.

        Not at once: what it imports takes a core for seconds, which those who have just loaded a model need.
        """
        while self._config.spare_engine:
            seen = self.changes.count
            waits = self._spawner.has_spare or any(model.occupied for model in self._models.values())
            try:
                async with asyncio.timeout(None if waits else _QUIET_SECONDS):
                    await self.changes.after(seen)
            except TimeoutError:
                await self._start_spare()

    async def drain(self) -> None:
        """Takes no new requests from now on; running ones go on."""
        self.draining = True
        self.changes.notify()

    async def close(self) -> None:
        """Stops every engine."""
        await asyncio.gather(*(model.unload() for model in (*self._models.values(), *self._leaving)))
        await self._spawner.close()
        await asyncio.gather(*self._tasks)

    # ------------------------------------------------------------------------------------ inside

    async def _start_spare(self) -> None:
        try:
            await self._spawner.keep_spare()
        except OSError as error:  # tried again a little later
            _LOG.warning("no spare engine", error=str(error))
        self.changes.notify()

    def _load(self, entry: ModelEntry, profile: str, *, lasting: bool) -> ServedModel:
        self._refuse_what_cannot_be(entry)
        key = (entry.name, profile)
        model = self._models.get(key)
        if model is None or model.state is State.FAILED:
            terms = terms_of(entry, profile, self._config.serving, self._config.engine, self._share)
            model = self._models[key] = ServedModel(
                entry, profile, replace(terms, lasting=lasting), self._shared, self._give_up
            )
            self.changes.notify()
        elif lasting:
            model.tenancy.keep()
        return model

    def _loaded(self, entry: ModelEntry, wanted: str | None) -> ServedModel | None:
        model = self._models.get((entry.name, wanted or self._names.default(entry)))
        if model is None and wanted is None:
            model = next((each for (name, _), each in self._models.items() if name == entry.name), None)
        return model

    def _offer(self, entry: ModelEntry, profile: str) -> ServedModel | UnloadedModel:
        key = (entry.name, profile)
        model = self._models.get(key)
        if model is not None:
            return model
        _, failure = self._refusals.get(key, (0.0, None))
        return self._shelf.look(entry, profile, failure)

    def _outdated(self) -> list[str]:
        """Idle models that the catalogue now describes differently, or no longer."""
        return [
            model.name
            for model in self._models.values()
            if not model.tenancy.busy and not self._names.is_current(model.entry)
        ]

    async def _let_go(self, model: ServedModel) -> None:
        """Unloads a model whose time is over; one that stays is loaded again as the catalogue has it now."""
        outdated = model.name in self._outdated()
        _LOG.info("model unloaded", model=model.name, why="its entry changed" if outdated else "not used")
        await self._drop(model)
        if outdated and (model.tenancy.terms.pinned or model.state is State.FAILED):
            with suppress(DiplexError):  # the catalogue doesn't have it any longer
                self.load(model.entry.name, model.profile)

    def _tenants(self) -> Sequence[Tenancy]:
        return [model.tenancy for model in (*self._models.values(), *self._leaving)]

    async def _evict(self, tenancy: Tenancy) -> None:
        """Unloads a model for another one; nothing if it is on its way out already."""
        for model in self.models:
            if model.tenancy is tenancy:
                size = tenancy.reserved
                _LOG.info("model unloaded", model=model.name, why="its memory is needed", bytes=size)
                await self._drop(model)

    async def _drop(self, model: ServedModel) -> None:
        """Unloads a model to the end, also when whoever wants that is gone meanwhile."""
        await asyncio.shield(self._begin_drop(model))

    def _begin_drop(self, model: ServedModel) -> asyncio.Task[None]:
        key = (model.entry.name, model.profile)
        if self._models.get(key) is model:
            del self._models[key]
        self._leaving.add(model)
        model.tenancy.leaving = True
        self._shelf.forget(*key)
        self.changes.notify()
        task = asyncio.create_task(self._dropped(model), name=f"unload {model.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _dropped(self, model: ServedModel) -> None:
        try:
            await model.unload()
        finally:
            self._leaving.discard(model)
            self.changes.notify()

    def _give_up(self, model: ServedModel) -> None:
        key = (model.entry.name, model.profile)
        if self._models.get(key) is not model:
            return
        if model.failure is not None:
            self._refusals[key] = (asyncio.get_running_loop().time(), model.failure)
        self._begin_drop(model)

    def _refuse_what_just_failed(self, key: tuple[str, str]) -> None:
        """What failed for want of room or of a connection may work now; what can't be converted won't."""
        when, failure = self._refusals.pop(key, (0.0, None))
        if failure is None or isinstance(failure, ResourceExhausted | Unavailable):
            return
        if asyncio.get_running_loop().time() < when + _RETRY_SECONDS:
            self._refusals[key] = (when, failure)
            raise Unavailable(f"{key[0]} can't answer: {failure.message}") from failure

    def _refuse_what_cannot_be(self, entry: ModelEntry) -> None:
        refusal = entry.backend(self.backend).refusal
        if refusal is not None:
            raise UnsupportedModel(f"{entry.name}: {refusal}", metadata={"model": entry.name})

    def _refuse_what_nobody_pulled(self, entry: ModelEntry, profile: str) -> None:
        """A request downloads only what the catalogue knows the bytes of."""
        artefact = entry.backend(self.backend).artefact
        if not isinstance(artefact, SourceFolder) or artefact.pinned:
            return
        if self._shared.artefacts.find(entry, profile) is None:
            raise UnsupportedModel(
                f"{entry.name} is not on this machine, and nobody has verified its source ({artefact.name}), "
                f"so no request downloads it: run `python -m workers.{self.backend}_worker pull "
                f"{entry.name}/{profile}` beside the worker, or name it in --model",
                metadata={"model": entry.name},
            )

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Draining("the worker is shutting down")
