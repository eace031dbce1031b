"""Whether a call that failed is tried again, and when."""

from __future__ import annotations

import time
from typing import Final

import grpc
import tenacity

from diplex.errors import DiplexError, Unavailable

DEFAULT_PATIENCE: Final = 20.0
"""Seconds: what a gateway may take to be restarted on a busy machine."""

_BACKOFF: Final = tenacity.wait_exponential_jitter(multiplier=0.05, max=2.0, jitter=0.05)
"""Seconds before the next attempt, from how many there were."""

_SHORTEST_TIMEOUT: Final = 0.001
_RESET: Final = "RST_STREAM"
"""In the details of INTERNAL when a connection broke under a call."""


class Retrying:
    """The attempts of one call.

    Only what no gateway has answered for good is tried again: UNAVAILABLE, and what gRPC says of connections
    that broke.

    Args:
        patience: Seconds for which a call that gets nowhere is tried again; 0 for a single attempt.
        timeout: Seconds that all attempts may take together; ``None`` for no limit.
    """

    def __init__(self, patience: float, timeout: float | None) -> None:
        self._policy = tenacity.Retrying(wait=_BACKOFF, stop=tenacity.stop_before_delay(patience))
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._failing: tenacity.RetryCallState | None = None  # since the last progress

    @property
    def timeout(self) -> float | None:
        """Seconds that the next attempt may take."""
        if self._deadline is None:
            return None
        return max(self._deadline - time.monotonic(), _SHORTEST_TIMEOUT)

    def progressed(self) -> None:
        """Says that the last attempt has brought something."""
        self._failing = None

    def pause(self, error: grpc.RpcError, known: DiplexError) -> float:
        """Seconds to wait before the next attempt.

        They double from time to time, with jitter, and are not fewer than what the gateway asks for.

        Args:
            error: What gRPC raised.
            known: The same as an error of ours.

        Raises:
            DiplexError: ``known``; there is to be no further attempt.
        """
        if self._failing is None:
            self._failing = tenacity.RetryCallState(self._policy, None, (), {})
        state = self._failing
        state.set_exception((type(known), known, None))
        state.upcoming_sleep = max(self._policy.wait(state), known.retry_after or 0)
        late = self._deadline is not None and time.monotonic() + state.upcoming_sleep > self._deadline
        if late or not _may_pass(error, known) or self._policy.stop(state):
            raise known from error
        state.prepare_for_next_attempt()
        return state.upcoming_sleep


def _may_pass(error: grpc.RpcError, known: DiplexError) -> bool:
    if isinstance(known, Unavailable):
        return True
    if known.metadata:  # a gateway said it, and not gRPC
        return False
    code, details = error.code(), error.details() or ""
    return code is grpc.StatusCode.CANCELLED or (code is grpc.StatusCode.INTERNAL and _RESET in details)
