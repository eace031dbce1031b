"""Whether a call that failed is tried again, and when."""

from __future__ import annotations

import random
import time
from typing import Final

import grpc

from diplex.errors import DiplexError, Unavailable

DEFAULT_PATIENCE: Final = 20.0
"""Seconds: what a gateway may take to be restarted on a busy machine."""

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
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
        self._patience = patience
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._failing_since: float | None = None
        self._failures = 0

    @property
    def timeout(self) -> float | None:
        """Seconds that the next attempt may take."""
        if self._deadline is None:
            return None
        return max(self._deadline - time.monotonic(), _SHORTEST_TIMEOUT)

    def progressed(self) -> None:
        """Says that the last attempt has brought something."""
        self._failing_since, self._failures = None, 0

    def pause(self, error: grpc.RpcError, known: DiplexError) -> float:
        """Seconds to wait before the next attempt.

        They double from time to time, with jitter, and are not fewer than what the gateway asks for.

        Args:
            error: What gRPC raised.
            known: The same as an error of ours.

        Raises:
            DiplexError: ``known``; there is to be no further attempt.
        """
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  # no secret depends on it
        pause: float = max(
            min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE) * jitter, known.retry_after or 0
        )
        self._failures += 1
        until = self._failing_since + self._patience
        if self._deadline is not None:
            until = min(until, self._deadline)
        if not _may_pass(error, known) or now + pause > until:
            raise known from error
        return pause


def _may_pass(error: grpc.RpcError, known: DiplexError) -> bool:
    if isinstance(known, Unavailable):
        return True
    if known.metadata:  # a gateway said it, and not gRPC
        return False
    code, details = error.code(), error.details() or ""
    return code is grpc.StatusCode.CANCELLED or (code is grpc.StatusCode.INTERNAL and _RESET in details)
