"""What a supervisor needs of a backend's artefacts: found, made, and how much memory they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.runtime.artefact import ModelDescription
from workers.runtime.catalogue import Artefact, ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.progress import Report
from workers.runtime.store import PreparedArtefact, Store
from workers.runtime.store.measurements import Measurements
from workers.runtime.supervisor.footprint import Needs
from workers.runtime.supervisor.preparation import Order, prepared_by


class Artefacts(Protocol):
    """The prepared artefacts of one backend."""

    def find(self, entry: ModelEntry, profile: str) -> PreparedArtefact | None:
        """The artefact if it is there and need not be made again; reads a few small files."""

    async def prepare(self, entry: ModelEntry, profile: str, report: Report) -> PreparedArtefact:
        """Finds or makes it; ends what it began when it is cancelled.

        Raises:
            DiplexError: It can't be made.
        """

    def preparing_bytes(self, entry: ModelEntry, profile: str) -> int:
        """Memory that making it takes, or at least what is made of it."""

    def expected_bytes(self, entry: ModelEntry, profile: str) -> int | None:
        """Memory that an engine takes at least, by the number of weights; ``None`` if that is unknown."""

    def needs(self, artefact: PreparedArtefact, description: ModelDescription, config: EngineConfig) -> Needs:
        """Memory that an engine takes, by prediction or as it was measured before."""

    def measured(self, artefact: PreparedArtefact, config: EngineConfig, loaded: int) -> None:
        """Takes what an engine did take, in bytes, once it was loaded."""


@dataclass(frozen=True, slots=True)
class BackendMemory:
    """How a backend's memory is predicted."""

    runtime: str
    """The library that computes, with its version: what was measured of one doesn't hold for another."""
    predict: Callable[[Path, ModelDescription, EngineConfig], Needs]
    """From a prepared artefact's folder."""
    converting: Callable[[Artefact, str], int]
    """Bytes that making an artefact takes, from its source and profile."""
    expect: Callable[[int, str], int]
    """Bytes that an engine of so many weights takes at least, in a profile."""


class StoredArtefacts:
    """Artefacts of a store, made by child processes.

    Args:
        store: Where they lie.
        backend: As ``onnx``.
        version: Of the converter; what another version made is made again.
        command: What runs a preparing process.
        memory: Predictions.
    """

    def __init__(
        self, store: Store, backend: str, *, version: str, command: Sequence[str], memory: BackendMemory
    ) -> None:
        self._store = store
        self._backend = backend
        self._version = version
        self._command = command
        self._memory = memory
        self._measurements = Measurements(store.home / "measured")

    def find(self, entry: ModelEntry, profile: str) -> PreparedArtefact | None:
        """See :class:`Artefacts`."""
        return self._store.find(entry, self._backend, profile, version=self._version)

    async def prepare(self, entry: ModelEntry, profile: str, report: Report) -> PreparedArtefact:
        """See :class:`Artefacts`."""
        order = Order(self._store.home, entry, profile, self._store.accepted)
        return self.find(entry, profile) or await prepared_by(self._command, order, report)

    def preparing_bytes(self, entry: ModelEntry, profile: str) -> int:
        """See :class:`Artefacts`."""
        converting = self._memory.converting(entry.backend(self._backend).artefact, profile)
        return max(converting, self.expected_bytes(entry, profile) or 0)

    def expected_bytes(self, entry: ModelEntry, profile: str) -> int | None:
        """See :class:`Artefacts`."""
        return None if entry.parameters is None else self._memory.expect(entry.parameters, profile)

    def needs(self, artefact: PreparedArtefact, description: ModelDescription, config: EngineConfig) -> Needs:
        """See :class:`Artefacts`."""
        predicted = self._memory.predict(artefact.folder, description, config)
        known = self._measurements.find(artefact.digest, self._conditions(config))
        return predicted if known is None else Needs(known, predicted.working)

    def measured(self, artefact: PreparedArtefact, config: EngineConfig, loaded: int) -> None:
        """See :class:`Artefacts`."""
        self._measurements.keep(artefact.digest, self._conditions(config), loaded)

    def _conditions(self, config: EngineConfig) -> str:
        return f"loaded, {self._memory.runtime}, {config.slots} slots, {config.threads} threads"
