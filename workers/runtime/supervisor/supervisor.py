"""All models of a worker by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from diplex.errors import Draining, ModelNotFound
from workers.runtime.catalogue import Catalogue, ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.model import Prepare, ServedModel


@dataclass(frozen=True, slots=True)
class SupervisorConfig:
    """What a supervisor runs its engines with."""

    backend: str
    """Name of the backend in the catalogue, as ``onnx``."""
    command: Sequence[str]
    """What runs an engine process; the descriptor of its socket is appended."""
    engine: EngineConfig
    """How engines run; the folder is each model's own."""


class Supervisor:
    """Loads, finds and unloads models. Used in one event loop."""

    def __init__(self, config: SupervisorConfig, catalogue: Catalogue, prepare: Prepare) -> None:
        self.changes = Changes()
        """Notified whenever the state of a model changes."""
        self.draining = False
        """Set once no new requests are taken."""
        self._config = config
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
        """The model of that name, which begins to load if it wasn't; doesn't wait until it is ready.

        Raises:
            ModelNotFound: The catalogue doesn't have it, or not at that profile.
            UnsupportedModel: The catalogue has it for other backends only.
        """
        entry, wanted = self._resolve(name, profile)
        key = (entry.name, wanted)
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = ServedModel(
                entry,
                wanted,
                prepare=self._prepare,
                command=self._config.command,
                config=self._config.engine,
                changes=self.changes,
            )
            self.changes.notify()
        return model

    def find(self, name: str, profile: str | None = None) -> ServedModel:
        """The loaded, or loading, model of that name; any profile of it when none is named.

        Raises:
            ModelNotFound: It isn't loaded here.
            Draining: The worker takes no new requests.
        """
        if self.draining:
            raise Draining("the worker is shutting down")
        entry, wanted = self._resolve(name, profile)
        named = profile is not None or "/" in name
        for (known, at), model in self._models.items():
            if known == entry.name and (at == wanted or not named):
                return model
        raise ModelNotFound(f"{entry.name}/{wanted} is not loaded on this worker", metadata={"model": name})

    async def unload(self, name: str, profile: str | None = None) -> None:
        """Stops a model's engine process.

        Raises:
            ModelNotFound: It isn't loaded here.
        """
        model = self.find(name, profile)
        del self._models[model.entry.name, model.profile]
        await model.unload()
        self.changes.notify()

    async def drain(self) -> None:
        """Takes no new requests from now on; running ones go on."""
        self.draining = True
        self.changes.notify()

    async def close(self) -> None:
        """Stops every engine."""
        await asyncio.gather(*(model.unload() for model in self._models.values()))

    def _resolve(self, name: str, profile: str | None) -> tuple[ModelEntry, str]:
        match = self._catalogue.find(name)
        return match.entry, match.entry.backend(self.backend).profile(profile or match.profile).name
