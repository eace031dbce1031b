"""Models that are loaded and unloaded through the gateway, by operators. No transport of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import grpc
import structlog

from diplex import validation
from diplex.errors import InsufficientMemory, ModelNotFound, Unavailable
from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2
from gateway.attempt import error_of
from gateway.caller import Caller
from gateway.conversion import deployment_wanted_by, precision_number
from gateway.fleet.facts import State
from gateway.fleet.fleet import Fleet
from gateway.routing import router
from gateway.routing.router import Candidate, Obstacle
from gateway.security.principal import Method

_LOG: Final = structlog.get_logger()


class Models:
    """Loads models on workers of a fleet, and unloads them.

    Args:
        fleet: The workers; opened and closed by the caller.
        default_model: Meant by requests that name none; empty for the only one there is.
    """

    def __init__(self, fleet: Fleet, default_model: str = "") -> None:
        self._fleet = fleet
        self._default_model = default_model

    async def load(
        self, request: models_pb2.LoadModelRequest, caller: Caller
    ) -> AsyncGenerator[models_pb2.LoadModelResponse]:
        """Loads a model on the worker that a request for it would go to; progress, then the model.

        Where there is no memory for it, or the worker is lost, the next one is asked.

        Raises:
            DiplexError: See ``diplex.errors``; the worker's own if it can't load the model.
        """
        validation.check_load_or_unload(request)
        wanted = deployment_wanted_by(request)
        plan = self._fleet.plan(wanted, self._default_model)
        caller.principal.require(Method.OPERATE, plan.wanted.model)
        # What has failed is tried again, since somebody asks for just that.
        able = [it for it in plan.candidates if it.obstacle in (None, Obstacle.FAILED)]
        if not able:
            raise router.refusal(plan)
        for candidate in able:
            try:
                async with aclosing(self._load(candidate, caller)) as events:
                    async for event in events:
                        yield event
            except (Unavailable, InsufficientMemory) as error:
                if candidate is able[-1]:
                    raise
                _LOG.warning("not loaded", worker=candidate.worker.name, error=error.message)
            else:
                return

    async def unload(
        self, request: models_pb2.UnloadModelRequest, caller: Caller
    ) -> models_pb2.UnloadModelResponse:
        """Unloads a model on every worker that has it; returns once the memory is free.

        Raises:
            PermissionDenied: The caller has no right to.
            ModelNotFound: Nobody has it loaded.
            DiplexError: What a worker failed with; the others have done it all the same.
        """
        validation.check_load_or_unload(request)
        wanted = deployment_wanted_by(request)
        plan = self._fleet.plan(wanted, self._default_model)
        caller.principal.require(Method.OPERATE, plan.wanted.model)
        holders = [
            it
            for it in plan.candidates
            if it.deployment.state is not State.UNLOADED
            and it.worker.connected
            and it.obstacle not in (Obstacle.BACKEND, Obstacle.PRECISION)
        ]
        if not holders:
            raise ModelNotFound(
                f"{plan.wanted.model} is not loaded on any worker", metadata={"model": plan.wanted.model}
            )
        ends = await asyncio.gather(*(self._unload(it, caller) for it in holders), return_exceptions=True)
        if error := next((it for it in ends if it is not None), None):
            raise error
        return models_pb2.UnloadModelResponse()

    async def _load(
        self, candidate: Candidate, caller: Caller
    ) -> AsyncGenerator[models_pb2.LoadModelResponse]:
        message = worker_pb2.LoadModelRequest(
            model=candidate.deployment.model, precision=precision_number(candidate.deployment.precision)
        )
        with self._fleet.stub(candidate.worker) as stub:
            call = stub.LoadModel(message, timeout=caller.remaining(), metadata=caller.metadata)
            try:
                async for event in call:
                    if event.HasField("progress"):
                        yield models_pb2.LoadModelResponse(progress=event.progress)
                    else:
                        yield models_pb2.LoadModelResponse(model=event.model)
            except grpc.aio.AioRpcError as error:
                raise error_of(error, candidate.worker) from error
            finally:
                call.cancel()

    async def _unload(self, holder: Candidate, caller: Caller) -> None:
        message = worker_pb2.UnloadModelRequest(
            model=holder.deployment.model, precision=precision_number(holder.deployment.precision)
        )
        with self._fleet.stub(holder.worker) as stub:
            try:
                await stub.UnloadModel(message, timeout=caller.remaining(), metadata=caller.metadata)
            except grpc.aio.AioRpcError as error:
                raise error_of(error, holder.worker) from error
