"""From protobuf to the router's facts and back; the router knows no protobuf."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from typing import Final, TypeVar

from google.protobuf.descriptor import EnumDescriptor

from diplex.v1 import generation_pb2, models_pb2
from diplex.validation import image_fields
from diplex.worker.v1 import worker_pb2
from gateway.fleet.facts import Backend, Deployment, Precision, State, Unserved, Wanted, Worker
from gateway.prompt import prefix_of
from gateway.routing.router import Candidate

_Named = TypeVar("_Named", Backend, Precision, State)


def _by_number(enum: EnumDescriptor, prefix: str, members: Iterable[_Named]) -> dict[int, _Named]:
    return {enum.values_by_name[f"{prefix}_{member.name}"].number: member for member in members}


_BACKENDS: Final = _by_number(generation_pb2.Backend.DESCRIPTOR, "BACKEND", Backend)
_PRECISIONS: Final = _by_number(generation_pb2.Precision.DESCRIPTOR, "PRECISION", Precision)
_STATES: Final = _by_number(models_pb2.ModelState.DESCRIPTOR, "MODEL_STATE", State)

_PRECISION_NUMBERS: Final = {
    precision: generation_pb2.Precision.Value(f"PRECISION_{precision.name}") for precision in Precision
}


def precision_number(precision: Precision | None) -> generation_pb2.Precision.ValueType:
    """The number of a precision on the wire; unspecified for ``None``."""
    if precision is None:
        return generation_pb2.PRECISION_UNSPECIFIED
    return _PRECISION_NUMBERS[precision]


def plan_candidate(candidate: Candidate) -> generation_pb2.PlanCandidate:
    """A deployment that was weighed, as callers are told of it."""
    deployment = candidate.deployment
    return generation_pb2.PlanCandidate(
        model=deployment.model,
        backend=_backend_number(deployment.backend),
        precision=precision_number(deployment.precision),
        worker=candidate.worker.name or candidate.worker.address,
        reason=candidate.reason,
        can_serve=candidate.obstacle is None,
    )


def _backend_number(backend: Backend | None) -> generation_pb2.Backend.ValueType:
    if backend is None:
        return generation_pb2.BACKEND_UNSPECIFIED
    return generation_pb2.Backend.Value(f"BACKEND_{backend.name}")


def deployment_wanted_by(
    request: models_pb2.LoadModelRequest | models_pb2.UnloadModelRequest,
) -> Wanted:
    """Which model, and where, an operator's request means."""
    return Wanted(
        model=request.model,
        backend=_BACKENDS.get(request.backend),
        precision=_PRECISIONS.get(request.precision),
    )


def wanted_by(request: generation_pb2.GenerateRequest | generation_pb2.CountTokensRequest) -> Wanted:
    """What a checked request says about who may serve it."""
    return Wanted(
        model=request.model,
        backend=_BACKENDS.get(request.backend),
        precision=_PRECISIONS.get(request.precision),
        images=tuple(image_fields(request.chat)),
        prefix=prefix_of(request) if isinstance(request, generation_pb2.GenerateRequest) else None,
    )


def worker_of(address: str, state: worker_pb2.WatchResponse | None, *, connected: bool) -> Worker:
    """A worker as its last message describes it; ``None`` if it was never heard."""
    if state is None:
        return Worker(address, name="", connected=connected, draining=False, deployments=())
    deployments = tuple(
        _deployment(model, deployment, state.backend, others)
        for model, others in zip(state.models, chain(state.others, repeat(0)), strict=False)
        for deployment in model.deployments
    )
    return Worker(
        address,
        name=state.worker,
        connected=connected,
        draining=state.draining,
        deployments=deployments,
        ready=state.ready,
        memory_budget=state.memory_budget_bytes,
        unserved=tuple(
            Unserved(
                it.name,
                tuple(it.aliases),
                tuple(_BACKENDS[number] for number in it.backends if number in _BACKENDS),
                it.reason,
            )
            for it in state.unserved
        ),
    )


def _deployment(
    model: models_pb2.Model, deployment: models_pb2.ModelDeployment, backend: int, others: int
) -> Deployment:
    return Deployment(
        model=model.name,
        aliases=tuple(model.aliases),
        backend=_BACKENDS.get(deployment.backend or backend),
        precision=_PRECISIONS.get(deployment.precision),
        # A state that a newer worker might add can't be relied on.
        state=_STATES.get(deployment.state, State.FAILED),
        images=model.capabilities.images,
        slots=deployment.slots.total,
        busy=deployment.slots.busy,
        queued=deployment.slots.queued,
        others=others,
        detail=deployment.detail,
        most_bytes=deployment.most_bytes,
        pinned=deployment.pinned,
    )
