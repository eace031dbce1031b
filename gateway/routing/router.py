"""Who could serve a request, best first, and why. A pure function: no I/O, no clock, no protobuf.

The order: the backend that the request names, else ONNX before PyTorch; what is loaded, or being loaded,
before what would have to be; a worker's default profile before its others; ready before loading or restarting
(the worker queues there); then the fewest busy slots and waiting requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from diplex.errors import DiplexError, FieldViolation, NoWorker, Unavailable, UnsupportedFeature
from gateway.fleet.facts import Backend, Deployment, Fleet, Precision, State, Wanted, Worker
from gateway.routing import names

RETRY_SECONDS: Final = 1.0
"""When a client may ask again for what is not there now."""


class Obstacle(Enum):
    """Why a deployment can't serve a request. The first three don't pass with time."""

    BACKEND = auto()
    PRECISION = auto()
    IMAGES = auto()
    NOT_CONNECTED = auto()
    DRAINING = auto()
    FAILED = auto()
    PROFILE = auto()


_LASTING: Final = frozenset({Obstacle.BACKEND, Obstacle.PRECISION, Obstacle.IMAGES})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A deployment of the model that was asked for."""

    worker: Worker
    deployment: Deployment
    obstacle: Obstacle | None
    """``None``: it can serve."""
    reason: str
    """Why it stands where it stands, or why it can't serve."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All deployments of the model, best first; those that can't serve come last."""

    wanted: Wanted
    """With the canonical name, and the precision if one was named."""
    candidates: tuple[Candidate, ...]

    @property
    def servable(self) -> tuple[Candidate, ...]:
        """The candidates that can serve; see :func:`refusal` if there is none."""
        return tuple(candidate for candidate in self.candidates if candidate.obstacle is None)


def plan(wanted: Wanted, fleet: Fleet, default_model: str = "") -> Plan:
    """Ranks the deployments of the model that a request means.

    Args:
        wanted: The request's wishes.
        fleet: The workers as they are now.
        default_model: Serves requests that name no model; empty for the only one there is.

    Raises:
        NoWorker: No worker is connected.
        ModelNotFound: No worker knows the model.
        InvalidRequest: The request names no model and there is no default; or it contradicts itself.
    """
    if not fleet.connected:
        raise NoWorker("the gateway is connected to no worker", retry_after=RETRY_SECONDS)
    resolved = names.resolve(wanted, fleet, default_model)
    found = sorted(_deployments(resolved.model, fleet), key=_Ranked.key)
    candidates = [_candidate(ranked, resolved) for ranked in found]
    candidates.sort(key=lambda candidate: candidate.obstacle is not None)
    return Plan(resolved, tuple(candidates))


def refusal(plan: Plan) -> DiplexError:
    """The error for a plan in which nobody can serve: the obstacle of those that came nearest."""
    passing = [candidate for candidate in plan.candidates if candidate.obstacle not in _LASTING]
    if passing:
        told = "; ".join(dict.fromkeys(f"{_called(c.worker)}: {c.reason}" for c in passing))
        return Unavailable(
            f"{plan.wanted.model} can't be served now: {told}",
            metadata={"model": plan.wanted.model},
            retry_after=RETRY_SECONDS,
        )
    violations = list(_lacking(plan))
    told = "; ".join(f"{fault.field}: {fault.description}" for fault in violations)
    return UnsupportedFeature(told, violations=violations, metadata={"model": plan.wanted.model})


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A deployment with what its rank depends on."""

    worker: Worker
    deployment: Deployment
    profile: int
    """0 for the worker's default profile of the model."""
    spare: bool
    """It isn't loaded, and another profile is loaded or is the default: loaded only when it is named."""

    def key(self) -> tuple[int, bool, int, int, int]:
        """Sorts the best first; a kind of backend that the gateway doesn't know comes last."""
        it = self.deployment
        backend = _BACKENDS.index(it.backend) if it.backend else len(_BACKENDS)
        unloaded = it.state is State.UNLOADED
        return backend, unloaded, self.profile, _STATE_RANK[it.state], it.busy + it.queued


_BACKENDS: Final = tuple(Backend)
_STATE_RANK: Final = {
    State.READY: 0,
    State.LOADING: 1,
    State.RESTARTING: 1,
    State.UNLOADED: 2,
    State.FAILED: 3,
}


def _deployments(model: str, fleet: Fleet) -> Iterator[_Ranked]:
    for worker in fleet.workers:
        of_model = [it for it in worker.deployments if it.model.casefold() == model.casefold()]
        at_hand = any(it.state not in (State.UNLOADED, State.FAILED) for it in of_model)
        for profile, deployment in enumerate(of_model):
            spare = deployment.state is State.UNLOADED and (at_hand or profile > 0)
            yield _Ranked(worker, deployment, profile, spare)


def _candidate(ranked: _Ranked, wanted: Wanted) -> Candidate:
    obstacle = _obstacle(ranked, wanted)
    return Candidate(ranked.worker, ranked.deployment, obstacle, _reason(ranked.deployment, obstacle))


def _obstacle(ranked: _Ranked, wanted: Wanted) -> Obstacle | None:
    worker, deployment = ranked.worker, ranked.deployment
    hindrances = (
        (Obstacle.BACKEND, wanted.backend not in (None, deployment.backend)),
        (Obstacle.PRECISION, wanted.precision not in (None, deployment.precision)),
        (Obstacle.IMAGES, bool(wanted.images) and not deployment.images),
        (Obstacle.NOT_CONNECTED, not worker.connected),
        (Obstacle.DRAINING, worker.draining),
        (Obstacle.FAILED, deployment.state is State.FAILED),
        (Obstacle.PROFILE, ranked.spare and wanted.precision is None),
    )
    return next((obstacle for obstacle, stands in hindrances if stands), None)


def _reason(deployment: Deployment, obstacle: Obstacle | None) -> str:
    if obstacle is None:
        return _standing(deployment)
    return {
        Obstacle.BACKEND: f"runs on {deployment.backend or 'an unknown backend'}",
        Obstacle.PRECISION: f"holds {deployment.precision or 'an unknown precision'}",
        Obstacle.IMAGES: "the model takes no images",
        Obstacle.NOT_CONNECTED: "the worker is not connected",
        Obstacle.DRAINING: "the worker is shutting down",
        Obstacle.PROFILE: "it is not loaded, and is only loaded when its precision is named",
        Obstacle.FAILED: f"failed: {deployment.detail or 'no detail was given'}",
    }[obstacle]


def _standing(deployment: Deployment) -> str:
    what = f"{deployment.backend or 'unknown backend'}, {deployment.precision or 'default precision'}"
    use = f"{deployment.busy} of {deployment.slots} slots busy, {deployment.queued} waiting"
    return f"{what}, {deployment.state}, {use}"


def _lacking(plan: Plan) -> Iterator[FieldViolation]:
    """The fields that no deployment meets, with what could be had instead."""
    wanted, obstacles = plan.wanted, {candidate.obstacle for candidate in plan.candidates}
    if obstacles == {Obstacle.BACKEND}:
        offered = _offered(candidate.deployment.backend for candidate in plan.candidates)
        served = f"{wanted.model} is served by {offered}, not by {wanted.backend}"
        hint = "; `diplex up --torch` starts a worker for that" if wanted.backend is Backend.TORCH else ""
        yield FieldViolation("backend", served + hint)
    elif Obstacle.IMAGES not in obstacles:
        offered = _offered(
            candidate.deployment.precision
            for candidate in plan.candidates
            if candidate.obstacle is Obstacle.PRECISION
        )
        yield FieldViolation("precision", f"{wanted.model} is served at {offered}, not at {wanted.precision}")
    else:
        for field in wanted.images:
            yield FieldViolation(field, f"{wanted.model} takes no images")


def _offered(values: Iterable[Backend | Precision | None]) -> str:
    return ", ".join(sorted({str(value) for value in values if value})) or "an unknown kind"


def _called(worker: Worker) -> str:
    return worker.name or worker.address
