"""Attempts behind admission: what is refused is never tried, and what is over is settled."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.admission.admission import Admission
from gateway.caller import Caller
from gateway.resilience.hedging import Hedged
from gateway.resilience.relayed import Relayed
from gateway.routing import router
from gateway.routing.router import Plan


class AdmittedAttempts:
    """Runs those generations on a fleet that are let in.

    Args:
        attempts: Runs them.
        plan: Who could serve a request, best first.
        admission: Lets them in.
    """

    def __init__(
        self, attempts: Hedged, plan: Callable[[pb.GenerateRequest, Caller], Plan], admission: Admission
    ) -> None:
        self._attempts = attempts
        self._plan_of = plan
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
        plan = self._plan_of(request, caller)
        if not plan.servable:
            raise router.refusal(plan)
        begun = relayed.sequence > 0
        with self._admission.admitted(request, caller, plan.servable, whole=whole, begun=begun) as visit:
            responses = self._attempts.run(request, caller, relayed, whole=whole)
            async with aclosing(responses):
                async for response in responses:
                    visit.saw(response)
                    yield response
