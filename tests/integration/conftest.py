"""Supervisors over the real store and real engine processes of the tiny model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.onnx_worker.prepare import GgufToOnnx
from workers.runtime.catalogue import Catalogue, ModelEntry
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.progress import Report, silent
from workers.runtime.store import PreparedArtefact, Store
from workers.runtime.supervisor.model import Prepare
from workers.runtime.supervisor.supervisor import Supervisor, SupervisorConfig

ENGINE = (sys.executable, "-m", "workers.onnx_worker.engine")
SLOTS = 4


@pytest.fixture(scope="session")
def tiny_models(tiny_catalogue: Path) -> Catalogue:
    return Catalogue.load([tiny_catalogue])


@pytest.fixture(scope="session")
def prepare_tiny(tiny_home: Path) -> Prepare:
    store = Store(tiny_home)

    def prepare(entry: ModelEntry, profile: str, report: Report) -> PreparedArtefact:
        return store.ensure(entry, "onnx", profile, GgufToOnnx(), report)

    return prepare


@pytest.fixture(scope="session")
def tiny_fp32(tiny_models: Catalogue, prepare_tiny: Prepare) -> Path:
    """The folder of the prepared full-precision artefact."""
    return prepare_tiny(tiny_models.find("tiny-llama").entry, "fp32", silent).folder


@pytest.fixture(scope="session")
def supervisor_of(tiny_models: Catalogue, prepare_tiny: Prepare) -> Callable[..., Supervisor]:
    """Makes supervisors of tiny engines with one thread and four slots; to be closed by who made them."""

    def make(
        *, command: tuple[str, ...] = ENGINE, prepare: Prepare = prepare_tiny, **engine: int
    ) -> Supervisor:
        config = EngineConfig(Path(), **{"slots": SLOTS, "threads": 1} | engine)
        return Supervisor(SupervisorConfig("onnx", command, config), tiny_models, prepare)

    return make
