"""What a backend brings to its worker's command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workers.runtime.adoption import Formats
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.progress import Report
from workers.runtime.store import Prepare, Store
from workers.runtime.supervisor.artefacts import BackendMemory, StoredArtefacts


@dataclass(frozen=True, slots=True)
class WorkerKind:
    """A kind of worker; its package has a module ``engine`` and a module ``preparation`` to be run."""

    backend: str
    """As requests name it: ``onnx``."""
    package: str
    """As ``workers.onnx_worker``."""
    help: str
    """One sentence for ``--help``."""
    models: tuple[str, ...]
    """What is loaded at the start when nothing is named; may be empty, for what is asked for."""
    converter: Prepare
    formats: Formats
    """Looks at models that no catalogue knows."""
    memory: BackendMemory
    certify: Callable[[Path, Path, Report], Certificate] | None
    """From a prepared folder and its source to the fidelity measured; ``None`` if nobody can measure it."""
    check_device: Callable[[str], None]
    """Refuses a device that the backend can't compute on, with a :class:`~diplex.errors.DiplexError`."""
    spare_engine: bool = False
    """Whether an engine process is started ahead by default: where its imports take seconds."""

    def artefacts(self, store: Store) -> StoredArtefacts:
        """The backend's artefacts in a store."""
        return StoredArtefacts(
            store,
            self.backend,
            version=self.converter.version,
            command=self.command("preparation"),
            memory=self.memory,
        )

    def command(self, module: str) -> tuple[str, ...]:
        """What runs a module of the package."""
        return sys.executable, "-m", f"{self.package}.{module}"
