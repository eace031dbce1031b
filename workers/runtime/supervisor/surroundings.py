"""What all models of a supervisor share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.runtime.supervisor.admission import Admission
from workers.runtime.supervisor.artefacts import Artefacts
from workers.runtime.supervisor.beat import Beat
from workers.runtime.supervisor.changes import Changes


@dataclass(frozen=True, slots=True)
class Surroundings:
    """See the module."""

    artefacts: Artefacts
    command: Sequence[str]
    """What runs an engine process."""
    beat: Beat
    """When the pieces of running streams go on."""
    changes: Changes
    """Notified when a model's state, load, progress or use changes."""
    admission: Admission
    """Gives out memory."""
