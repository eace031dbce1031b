"""Models that are known and not loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from diplex.errors import DiplexError
from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.store import PreparedArtefact
from workers.runtime.supervisor.artefacts import Artefacts
from workers.runtime.supervisor.footprint import Footprint, footprint


@dataclass(frozen=True, slots=True)
class UnloadedModel:
    """A model that a request, or an operator, could load."""

    entry: ModelEntry
    profile: str
    artefact: PreparedArtefact | None
    """``None`` while it has to be prepared first."""
    predicted: Footprint | None
    """What it would take; ``None`` while that isn't known."""
    failure: DiplexError | None = None
    """Why it could not be loaded the last time."""


class Shelf:
    """Looks into the store for models that aren't loaded, and remembers what it saw.

    Args:
        artefacts: The store.
        config: How engines run.
        share: Bytes of memory that one model should make do with.
    """

    def __init__(self, artefacts: Artefacts, config: EngineConfig, share: int | None) -> None:
        self._artefacts = artefacts
        self._config = config
        self._share = share
        self._seen: dict[tuple[str, str], UnloadedModel] = {}  # (name, profile) -> what was seen

    def look(self, entry: ModelEntry, profile: str, failure: DiplexError | None) -> UnloadedModel:
        """The model as it lies in the store, with what it failed with."""
        key = (entry.name, profile)
        if key not in self._seen:
            self._seen[key] = self._look(entry, profile)
        seen = self._seen[key]
        return seen if seen.failure is failure else replace(seen, failure=failure)

    def forget(self, name: str, profile: str) -> None:
        """Says that a model in the store may have changed."""
        self._seen.pop((name, profile), None)

    def clear(self) -> None:
        """Says that all may have changed."""
        self._seen.clear()

    def _look(self, entry: ModelEntry, profile: str) -> UnloadedModel:
        artefact = self._artefacts.find(entry, profile)
        if artefact is None:
            expected = self._artefacts.expected_bytes(entry, profile)
            return UnloadedModel(
                entry, profile, None, None if expected is None else Footprint(expected, 0, 0)
            )
        try:
            description = ModelDescription.load(artefact.folder)
        except DiplexError:
            return UnloadedModel(entry, profile, artefact, None)
        needs = self._artefacts.needs(artefact, description, self._config)
        return UnloadedModel(
            entry, profile, artefact, footprint(needs, description, self._config, self._share)
        )
