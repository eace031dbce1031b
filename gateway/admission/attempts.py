"""Attempts behind admission: what is refused is never tried, and what is over is settled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.admission.admission import Admission
from gateway.caller import Caller
from gateway.fleet.facts import Wanted
from gateway.resilience.attempts import wanted_of
from gateway.resilience.hedging import Hedged
from gateway.resilience.relayed import Relayed
from gateway.routing.router import Candidate


class AdmittedAttempts:
    """Runs those generations on a fleet that are let in.

    Args:
        attempts: Runs them.
        choose: Who can serve a caller's request, best first; raises if nobody can.
        admission: Lets them in.
    """

    def __init__(
        self,
        attempts: Hedged,
        choose: Callable[[Wanted, Caller], tuple[Candidate, ...]],
        admission: Admission,
    ) -> None:
        self._attempts = attempts
        self._choose = choose
        self._admission = admission

    async def run(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        relayed: Relayed,
        *,
        whole: bool = False,
    ) -> AsyncGenerator[worker_pb2.GenerateResponse]:
        """See :meth:`Attempts.run`; what another gateway began is not refused for its deadline."""
        candidates = self._choose(wanted_of(request, relayed), caller)
        begun = relayed.sequence > 0
        with self._admission.admitted(request, caller, candidates, whole=whole, begun=begun) as visit:
            responses = self._attempts.run(request, caller, relayed, candidates, whole=whole)
            async with aclosing(responses):
                async for response in responses:
                    visit.saw(response)
                    yield response
