"""All models of a worker by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from diplex.errors import Draining, InvalidRequest, ModelNotFound
from workers.runtime.catalogue import Catalogue, ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.beat import DEFAULT_MESSAGES_PER_SECOND, Beat
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.model import Prepare, ServedModel, State


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """What a supervisor runs its engines with."""

    backend: str
    """Name of the backend in the catalogue, as ``onnx``."""
    command: Sequence[str]
    """What runs an engine process; the descriptor of its socket is appended."""
    engine: EngineConfig
    """How engines run; the folder is each model's own."""
    messages_per_second: float = DEFAULT_MESSAGES_PER_SECOND
    """About how many messages all streams together send when there are many: see :class:`Beat`."""


class Supervisor:
    """Loads, finds and unloads models. Used in one event loop."""

    def __init__(self, config: SupervisorConfig, catalogue: Catalogue, prepare: Prepare) -> None:
        self.changes = Changes()
        """Notified whenever the state of a model changes."""
        self.draining = False
        """Set once no new requests are taken."""
        self._config = config
        self._beat = Beat(config.messages_per_second)
        self._catalogue = catalogue
        self._prepare = prepare
        self._models: dict[tuple[str, str], ServedModel] = {}  # (canonical name, profile) -> model

    @property
    def backend(self) -> str:
        """Name of the backend that the engines are of."""
        return self._config.backend

    @property
    def models(self) -> Sequence[ServedModel]:
        """Every model that is loaded or being loaded."""
        return tuple(self._models.values())

    def load(self, name: str, profile: str | None = None) -> ServedModel:
        """The model of that name, which begins to load if it wasn't, or had failed to; doesn't wait for it.

        Raises:
            Draining: The worker takes nothing new.
            ModelNotFound: The catalogue doesn't have it, or not at that profile.
            UnsupportedModel: The catalogue has it for other backends only.
        """
        self._refuse_while_draining()
        entry, wanted = self._resolve(name, profile)
        key = (entry.name, wanted or self._default(entry))
        model = self._models.get(key)
        if model is None or model.state is State.FAILED:
            model = self._models[key] = ServedModel(
                entry,
                key[1],
                prepare=self._prepare,
                command=self._config.command,
                config=self._config.engine,
                beat=self._beat,
                changes=self.changes,
            )
            self.changes.notify()
        return model

    def find(self, name: str, profile: str | None = None) -> ServedModel:
        """The loaded, or loading, model of that name; when no profile is named the default, else any.

        Raises:
            ModelNotFound: It isn't loaded here.
            Draining: The worker takes no new requests.
        """
        self._refuse_while_draining()
        entry, wanted = self._resolve(name, profile)
        model = self._models.get((entry.name, wanted or self._default(entry)))
        if model is None and wanted is None:
            model = next((model for model in self._models.values() if model.entry is entry), None)
        if model is None:
            named = f"{entry.name}/{wanted}" if wanted else entry.name
            raise ModelNotFound(f"{named} is not loaded on this worker", metadata={"model": name})
        return model

    async def unload(self, name: str, profile: str | None = None) -> None:
        """Stops a model's engine process.

        Raises:
            ModelNotFound: It isn't loaded here.
        """
        model = self.find(name, profile)
        del self._models[model.entry.name, model.profile]
        self.changes.notify()
        await model.unload()

    async def drain(self) -> None:
        """Takes no new requests from now on; running ones go on."""
        self.draining = True
        self.changes.notify()

    async def close(self) -> None:
        """Stops every engine."""
        await asyncio.gather(*(model.unload() for model in self._models.values()))

    def _resolve(self, name: str, profile: str | None) -> tuple[ModelEntry, str | None]:
        """The entry, and the profile that was asked for beside the name or in it."""
        match = self._catalogue.find(name)
        wanted = profile or match.profile
        if profile and match.profile and profile.lower() != match.profile.lower():
            raise InvalidRequest.of_field("precision", f"is {profile}; the name says {match.profile}")
        known = match.entry.backend(self.backend).profile(wanted)
        return match.entry, known.name if wanted else None

    def _default(self, entry: ModelEntry) -> str:
        return entry.backend(self.backend).default_profile

    def _refuse_while_draining(self) -> None:
        if self.draining:
            raise Draining("the worker is shutting down")
