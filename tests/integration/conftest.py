"""Supervisors over the real store and real engine processes of the tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.onnx_worker.footprint import converting, expect, predict
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.catalogue import Catalogue, ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.progress import Report, silent
from workers.runtime.store import PreparedArtefact, Store
from workers.runtime.supervisor.artefacts import BackendMemory, StoredArtefacts
from workers.runtime.supervisor.background import in_background
from workers.runtime.supervisor.supervisor import Supervisor, SupervisorConfig
from workers.runtime.supervisor.terms import ServingConfig

ENGINE = (sys.executable, "-m", "workers.onnx_worker.engine")
PREPARATION = (sys.executable, "-m", "workers.onnx_worker.preparation")
SLOTS = 4

Prepare = Callable[[ModelEntry, str, Report], PreparedArtefact]
MEMORY = BackendMemory("onnxruntime", predict, converting, expect)


class ArtefactsOf(StoredArtefacts):
    """Artefacts that a test's own function makes, in this process."""

    def __init__(self, store: Store, prepare: Prepare) -> None:
        super().__init__(store, "onnx", version=ToOnnx.version, command=PREPARATION, memory=MEMORY)
        self._prepare = prepare

    def find(self, entry: ModelEntry, profile: str) -> None:
        return None

    async def prepare(self, entry: ModelEntry, profile: str, report: Report) -> PreparedArtefact:
        return await in_background(lambda: self._prepare(entry, profile, report))


@pytest.fixture(scope="session")
def tiny_models(tiny_catalogue: Path) -> Catalogue:
    return Catalogue.load([tiny_catalogue])


@pytest.fixture(scope="session")
def prepare_tiny(tiny_home: Path) -> Prepare:
    store = Store(tiny_home)

    def prepare(entry: ModelEntry, profile: str, report: Report) -> PreparedArtefact:
        return store.ensure(entry, "onnx", profile, ToOnnx(), report)

    return prepare


@pytest.fixture(scope="session")
def tiny_fp32(tiny_models: Catalogue, prepare_tiny: Prepare) -> Path:
    """The folder of the prepared full-precision artefact."""
    return prepare_tiny(tiny_models.find("tiny-llama").entry, "fp32", silent).folder


@pytest.fixture(scope="session")
def supervisor_of(
    tiny_home: Path, tiny_models: Catalogue, prepare_tiny: Prepare
) -> Callable[..., Supervisor]:
    """Makes supervisors of tiny engines with one thread and four slots; to be closed by who made them.

    They load only what is loaded explicitly.
    """

    def make(
        *,
        command: tuple[str, ...] = ENGINE,
        prepare: Prepare = prepare_tiny,
        spare_engine: bool = False,
        **engine: int,
    ) -> Supervisor:
        config = EngineConfig(Path(), **{"slots": SLOTS, "threads": 1} | engine)
        serving = ServingConfig(on_demand=False)
        settings = SupervisorConfig("onnx", command, config, serving=serving, spare_engine=spare_engine)
        return Supervisor(settings, tiny_models, ArtefactsOf(Store(tiny_home), prepare))

    return make
