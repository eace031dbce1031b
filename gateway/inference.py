"""The gateway's core: plans a request, forwards it, relays what comes back. No transport of its own.

Every edge calls this and nothing behind it, so that all of them mean the same thing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import grpc
import structlog

from diplex import validation
from diplex.errors import DiplexError, InsufficientMemory, InvalidRequest, Unavailable
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from gateway.admission.admission import Admission
from gateway.admission.attempts import AdmittedAttempts
from gateway.admission.config import AdmissionConfig
from gateway.assembly import Assembly
from gateway.attempt import error_of
from gateway.caller import Caller
from gateway.conversion import plan_candidate, precision_number, wanted_by
from gateway.fleet import offer
from gateway.fleet.facts import Wanted
from gateway.fleet.fleet import Fleet
from gateway.resilience.attempts import Attempts
from gateway.resilience.config import ResilienceConfig
from gateway.resilience.hedging import Hedged
from gateway.resilience.streams import Streams
from gateway.routing import names, router
from gateway.routing.router import Candidate, Plan
from gateway.security.principal import Method

_RESILIENCE: Final = ResilienceConfig()
_LOG: Final = structlog.get_logger()


class Inference:
    """Serves the public API's meaning on a fleet of workers; ``close`` ends what goes on without a client.

    Args:
        fleet: The workers; opened and closed by the caller.
        default_model: Serves requests that name no model; empty for the only one there is.
        resilience: What is done when a worker is lost.
        admission: Lets generations in; ``None`` for one of its own.
    """

    def __init__(
        self,
        fleet: Fleet,
        default_model: str = "",
        resilience: ResilienceConfig = _RESILIENCE,
        admission: Admission | None = None,
    ) -> None:
        self._fleet = fleet
        self._default_model = default_model
        attempts = AdmittedAttempts(
            Hedged(Attempts(fleet, self._choose, resilience), resilience),
            self._choose,
            admission or Admission(AdmissionConfig()),
        )
        self._streams = Streams(attempts, resilience)

    async def close(self) -> None:
        """Ends the generations that go on without a client."""
        await self._streams.close()

    def generate(
        self,
        request: pb.GenerateRequest,
        caller: Caller,
        *,
        whole: bool = False,
    ) -> AsyncGenerator[bytes]:
        """Streams a generation: progress if asked for, accepted, deltas, one finished a choice, receipt.

        Each event is a ``GenerateStreamResponse`` in the bytes that the worker made of it. Closing the
        generator, or cancelling the task that waits for it, cancels the worker's call at once.

        Args:
            request: As the client sent it.
            caller: On whose behalf.
            whole: Nobody reads along; the deltas may come at the end.

        Raises:
            DiplexError: See ``diplex.errors``.
        """
        validation.check_generate(request)
        return self._streams.events(request, caller, whole=whole)

    async def generate_whole(self, request: pb.GenerateRequest, caller: Caller) -> pb.GenerateResponse:
        """Generates and returns everything at once; otherwise as :meth:`generate`.

        Raises:
            InvalidRequest: A stream is to be taken up.
            DiplexError: See ``diplex.errors``.
        """
        if request.HasField("resume"):
            raise InvalidRequest.of_field("resume", "only streams are taken up; send the key again instead")
        assembly = Assembly()
        events = self.generate(request, caller, whole=True)
        async with aclosing(events):
            async for event in events:
                assembly.add(pb.GenerateStreamResponse.FromString(event))
        return assembly.response()

    def plan(self, request: pb.GenerateRequest, caller: Caller) -> pb.PlanResponse:
        """Who would serve a request, best first, and why; runs nothing.

        Raises:
            DiplexError: The request is wrong in itself, or no worker knows its model; see ``diplex.errors``.
        """
        validation.check_generate(request)
        return pb.PlanResponse(
            candidates=map(plan_candidate, self._plan(wanted_by(request), caller).candidates)
        )

    async def count_tokens(self, request: pb.CountTokensRequest, caller: Caller) -> pb.CountTokensResponse:
        """Counts the tokens of a request's input, with the model's own tokenizer.

        Raises:
            DiplexError: See ``diplex.errors``.
        """
        validation.check_count_tokens(request)
        candidates = self._choose(wanted_by(request), caller)
        for candidate in candidates:
            try:
                return await self._counted(candidate, request, caller)
            except (Unavailable, InsufficientMemory) as error:
                _failed(error, candidate, is_last=candidate is candidates[-1])
        raise AssertionError("the last candidate's error was raised")

    def list_models(self, caller: Caller) -> models_pb2.ListModelsResponse:
        """The models that the connected workers advertise and the caller may use; none without a worker."""
        default = self._default_model or names.only_model(self._fleet.snapshot) or ""
        models = [it for it in offer.merged(self._fleet.states()) if caller.principal.rights.covers(it.name)]
        return models_pb2.ListModelsResponse(models=models, default_model=default)

    async def model_lists(self, caller: Caller) -> AsyncGenerator[models_pb2.ListModelsResponse]:
        """The same now, then after changes; changes in quick succession come as one."""
        async with aclosing(self._fleet.snapshots()) as snapshots:
            async for _ in snapshots:
                yield self.list_models(caller)

    def get_model(self, request: models_pb2.GetModelRequest, caller: Caller) -> models_pb2.GetModelResponse:
        """One of them, by name or alias; empty for the default model.

        Raises:
            InvalidRequest: The name is too long.
            PermissionDenied: The caller may not use it.
            ModelNotFound: No worker knows it.
            NoWorker: None is connected.
            Unavailable: Only workers that aren't connected know it.
        """
        validation.check_get_model(request)
        plan = self._fleet.plan(Wanted(request.model), self._default_model)
        caller.principal.require_model(plan.wanted.model)
        for model in offer.merged(self._fleet.states()):
            if model.name.casefold() == plan.wanted.model.casefold():
                return models_pb2.GetModelResponse(model=model)
        raise router.refusal(plan)

    def _plan(self, wanted: Wanted, caller: Caller) -> Plan:
        plan = self._fleet.plan(wanted, self._default_model)
        caller.principal.require(Method.GENERATE, plan.wanted.model)
        return plan

    def _choose(self, wanted: Wanted, caller: Caller) -> tuple[Candidate, ...]:
        return self._fleet.choose(self._plan(wanted, caller))

    async def _counted(
        self, candidate: Candidate, request: pb.CountTokensRequest, caller: Caller
    ) -> pb.CountTokensResponse:
        message = worker_pb2.CountTokensRequest(request=request)
        message.request.model = candidate.deployment.model
        message.request.precision = precision_number(candidate.deployment.precision)
        with self._fleet.stub(candidate.worker) as stub:
            try:
                reply = await stub.CountTokens(message, timeout=caller.remaining(), metadata=caller.metadata)
            except grpc.aio.AioRpcError as error:
                raise error_of(error, candidate.worker) from error
        return reply.response


def _failed(error: DiplexError, candidate: Candidate, *, is_last: bool) -> None:
    """Raises the last candidate's error; logs any other, since the next one is tried."""
    if is_last:
        raise error
    _LOG.warning("next worker", lost=candidate.worker.name, reason=error.reason, error=error.message)
