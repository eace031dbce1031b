"""How requests are let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True, slots=True)
class AdmissionConfig:
    """Deadlines that are looked at before they have passed, and what callers' quotas are counted in."""

    predict: bool = True
    """Refuse at once what, by measured rates, would end after its deadline."""
    appointments: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    """Share of the throughput that refused requests get to come back to; they are told when."""
    appointment_seconds: Annotated[float, Ge(0)] = 120.0
    """Farthest time for which such a promise is made."""
    grace_seconds: Annotated[float, Ge(0)] = 2.0
    """How much later than that one may come."""
    state_file: str = ""
    """Where quotas and appointments are kept: a file that the gateway processes of this machine share, and
    that outlives them. Empty: in this process's memory."""
