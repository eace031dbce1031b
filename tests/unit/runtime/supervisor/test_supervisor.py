"""When a supervisor says that it can answer, before it has any engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.runtime.catalogue import Catalogue
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.store import Store
from workers.runtime.supervisor.artefacts import BackendMemory, StoredArtefacts
from workers.runtime.supervisor.supervisor import Supervisor, SupervisorConfig
from workers.runtime.supervisor.terms import ServingConfig


@pytest.mark.parametrize(
    ("serving", "ready"),
    [
        (ServingConfig(starts_empty=True), True),
        (ServingConfig(starts_empty=True, on_demand=False), False),
        (ServingConfig(), False),
    ],
)
async def test_without_models_to_wait_for_it_can_load_what_is_asked_for(tmp_path, serving, ready):
    memory = BackendMemory("none", predict=None, converting=None, expect=None)
    artefacts = StoredArtefacts(Store(tmp_path), "torch", version="1", command=(), memory=memory)
    config = SupervisorConfig("torch", (), EngineConfig(folder=Path()), serving=serving)
    supervisor = Supervisor(config, Catalogue.load(), artefacts)
    assert supervisor.ready is ready
    await supervisor.drain()
    assert not supervisor.ready
