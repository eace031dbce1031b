"""How much is done for a generation whose worker or client is lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Interval


@dataclass(frozen=True, slots=True)
class ResilienceConfig:
    """When workers count as lost, and how long a generation is kept going."""

    keepalive_seconds: Annotated[float, Ge(1)] = 2.0
    """Silence on the connection to a worker after which the gateway asks for a sign of life."""
    keepalive_timeout_seconds: Annotated[float, Ge(1)] = 3.0
    """How long the sign may take before the worker counts as lost."""
    most_losses: Annotated[int, Ge(1)] = 4
    """Workers that a generation may lose in a row, without anything new between them, before it is given up:
    it may itself be what kills them."""
    wait_seconds: Annotated[float, Ge(0)] = 60.0
    """How long a generation whose worker was lost waits for one that can go on with it."""
    pause_first_seconds: Annotated[float, Ge(0)] = 0.05
    """Pause before a worker is tried again that has failed the generation; doubles from time to time, with
    jitter."""
    pause_most_seconds: Annotated[float, Ge(0)] = 1.0
    """Longest such pause, before jitter."""
    hedge: bool = False
    """Whether a whole answer that is late is asked of a second worker too; the first answer counts."""
    hedge_quantile: Annotated[float, Interval(gt=0, lt=1)] = 0.95
    """Share of a model's recent answers that took less than what is late."""
    hedge_least_seconds: Annotated[float, Ge(0)] = 0.1
    """What is not late yet, however fast the others were."""
    linger_seconds: Annotated[float, Ge(0)] = 30.0
    """How long a generation with an idempotency key goes on once its client is gone."""
    keep_seconds: Annotated[float, Ge(0)] = 300.0
    """How long the answer to a request with an idempotency key is kept, from its end."""
    keep_mib: Annotated[float, Ge(0)] = 64.0
    """What such answers may take, in MiB; the oldest go first."""
    resumption_keys_file: str = ""
    """File with the secrets that sign resumption tokens, one a line: the first one signs, all are believed.
    Gateways with the same secrets can go on with each other's streams. Empty: one of this process alone."""
