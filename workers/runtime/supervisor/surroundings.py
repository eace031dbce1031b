"""What all models of a supervisor share."""

from __future__ import annotations

from dataclasses import dataclass

from workers.runtime.supervisor.admission import Admission
from workers.runtime.supervisor.artefacts import Artefacts
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.spawner import Spawner


@dataclass(frozen=True, slots=True)
class Surroundings:
    """See the module."""

    artefacts: Artefacts
    spawner: Spawner
    """Starts engine processes."""
    changes: Changes
    """Notified when a model's state, load, progress or use changes."""
    admission: Admission
    """Gives out memory."""
