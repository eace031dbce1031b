"""Who asks for something, and until when: what goes with a request through the gateway and on to workers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Self, cast

from opentelemetry.context import Context, get_current

from diplex import errors, tracing
from diplex.access import Account
from diplex.rpc import Call
from diplex.telemetry import REQUEST_ID_KEY
from gateway.security.principal import ANYBODY, Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a worker is called."""

    request_id: str
    """Goes to the worker, and into the logs of every hop."""
    deadline: float | None = None
    """On the event loop's clock, seconds; ``None`` without one."""
    client: str = ""
    """Who asks, for whoever is fair to clients: the principal's name; of anybody, the name that it gives
    itself, else its host."""
    principal: Principal = ANYBODY
    """Who it was proved to be, with its rights."""
    trace: Context = field(default_factory=Context, compare=False)
    """The span of which this request's are parts."""
    account: Account = field(default_factory=Account, compare=False)
    """Of the RPC, for what operators are told."""

    @classmethod
    def of(cls, call: Call) -> Self:
        """The caller of an RPC."""
        principal = ANYBODY if call.principal is None else cast("Principal", call.principal)
        caller = cls.within(call.timeout, call.request_id, principal.name or call.client, principal)
        return replace(caller, trace=get_current(), account=call.account)

    @classmethod
    def within(
        cls, timeout: float | None, request_id: str, client: str = "", principal: Principal = ANYBODY
    ) -> Self:
        """A caller whose deadline is ``timeout`` seconds from now."""
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        return cls(request_id, deadline, client, principal)

    def part(self, index: int) -> Caller:
        """The caller of one of the requests that make up this one's call."""
        return replace(self, request_id=f"{self.request_id}.{index}")

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call to a worker."""
        return ((REQUEST_ID_KEY, self.request_id), *tracing.carried(self.trace))

    def remaining(self) -> float | None:
        """Seconds until the deadline; ``None`` without one.

        Raises:
            DeadlineExceeded: It has passed.
        """
        if self.deadline is None:
            return None
        seconds = self.deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            raise errors.DeadlineExceeded("the caller's deadline passed")
        return seconds

    def can_wait(self, seconds: float) -> bool:
        """Whether the deadline is further away than that."""
        return self.deadline is None or self.deadline > asyncio.get_running_loop().time() + seconds
