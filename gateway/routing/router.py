"""Who could serve a request, best first, and why. A pure function: no I/O, no clock, no protobuf.

The order: the backend that the request names, else ONNX before PyTorch; what is loaded, or being loaded,
before what would have to be; a worker's default profile before its others; ready before loading or restarting
(the worker queues there); of what isn't loaded, where it has room. What is equal in all that, ``balance``
orders.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import groupby
from typing import Final

from diplex.errors import DiplexError, FieldViolation, NoWorker, Unavailable, UnsupportedFeature
from gateway.fleet.facts import Backend, Deployment, Fleet, Precision, State, Wanted, Worker
from gateway.routing import balance, load, names, room
from gateway.routing.circuit import Key

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
    EJECTED = auto()


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


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the gateway knows of its workers beside what they report, and chance."""

    loads: Mapping[str, load.Load] = field(default_factory=dict)
    """By the workers' addresses."""
    mean_tokens: float = 1.0
    """About what a request comes to."""
    ejected: Mapping[Key, str] = field(default_factory=dict)
    """Who gets nothing now, and why."""
    homes: Collection[str] = ()
    """Addresses of workers that hold the beginning of the prompt."""
    affinity_yield: float = 2.0
    """See :class:`gateway.routing.config.RoutingConfig`."""
    random: Callable[[], float] = lambda: 0.0
    """Draws from [0, 1)."""


_CALM: Final = Conditions()


def plan(wanted: Wanted, fleet: Fleet, default_model: str = "", conditions: Conditions = _CALM) -> Plan:
    """Ranks the deployments of the model that a request means.

    Args:
        wanted: The request's wishes.
        fleet: The workers as they are now.
        default_model: Serves requests that name no model; empty for the only one there is.
        conditions: What else decides.

    Raises:
        NoWorker: No worker is connected.
        ModelNotFound: No worker knows the model.
        InvalidRequest: The request names no model and there is no default; or it contradicts itself.
    """
    if not fleet.connected:
        raise NoWorker("the gateway is connected to no worker", retry_after=RETRY_SECONDS)
    resolved = names.resolve(wanted, fleet, default_model)
    found = sorted(_deployments(resolved.model, fleet), key=_Ranked.key)
    balanced = [it for _, equals in groupby(found, key=_Ranked.key) for it in _balanced(equals, conditions)]
    candidates = _without_ejected([_candidate(it, resolved, conditions) for it in balanced], conditions)
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
        space = room.of(self.worker, it) if unloaded else room.Room.ENOUGH
        return backend, unloaded, self.profile, _STATE_RANK[it.state], space.value


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


def _balanced(equals: Iterable[_Ranked], conditions: Conditions) -> Iterator[_Ranked]:
    by_address = {it.worker.address: it for it in equals}
    standings = (
        load.standing(
            it.worker, it.deployment, conditions.loads.get(address, load.NONE), conditions.mean_tokens
        )
        for address, it in by_address.items()
    )
    order = balance.ordered(
        standings,
        homes=conditions.homes,
        affinity_yield=conditions.affinity_yield,
        mean_tokens=conditions.mean_tokens,
        random=conditions.random,
    )
    return (by_address[it.address] for it in order)


def _without_ejected(candidates: list[Candidate], conditions: Conditions) -> list[Candidate]:
    """The same with ejected ones marked as such; unless nobody else can serve, since they still might."""
    whys = [conditions.ejected.get(Key(it.worker.address, it.deployment.model)) for it in candidates]
    if all(why for it, why in zip(candidates, whys, strict=True) if it.obstacle is None):
        return candidates
    return [
        replace(it, obstacle=Obstacle.EJECTED, reason=f"ejected {why}") if why and it.obstacle is None else it
        for it, why in zip(candidates, whys, strict=True)
    ]


def _candidate(ranked: _Ranked, wanted: Wanted, conditions: Conditions) -> Candidate:
    obstacle = _obstacle(ranked, wanted)
    reason = _standing(ranked, conditions) if obstacle is None else _reason(ranked.deployment, obstacle)
    return Candidate(ranked.worker, ranked.deployment, obstacle, reason)


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


def _reason(deployment: Deployment, obstacle: Obstacle) -> str:
    return {
        Obstacle.BACKEND: f"runs on {deployment.backend or 'an unknown backend'}",
        Obstacle.PRECISION: f"holds {deployment.precision or 'an unknown precision'}",
        Obstacle.IMAGES: "the model takes no images",
        Obstacle.NOT_CONNECTED: "the worker is not connected",
        Obstacle.DRAINING: "the worker is shutting down",
        Obstacle.PROFILE: "it is not loaded, and is only loaded when its precision is named",
        Obstacle.FAILED: f"failed: {deployment.detail or 'no detail was given'}",
    }[obstacle]


def _standing(ranked: _Ranked, conditions: Conditions) -> str:
    it, own = ranked.deployment, conditions.loads.get(ranked.worker.address, load.NONE)
    told = [f"{it.backend or 'unknown backend'}, {it.precision or 'default precision'}, {it.state}"]
    if it.state is State.UNLOADED:
        told.append(room.of(ranked.worker, it).told)
    else:
        told.append(f"{it.busy} of {it.slots} slots busy, {it.queued} waiting")
    if own.requests:
        told.append(f"{own.requests} requests with about {own.tokens} tokens from here")
    if ranked.worker.address in conditions.homes:
        told.append("has the beginning of the prompt")
    return ", ".join(told)


def _lacking(plan: Plan) -> Iterator[FieldViolation]:
    """The fields that no deployment meets, with what could be had instead."""
    wanted, obstacles = plan.wanted, {candidate.obstacle for candidate in plan.candidates}
    if obstacles == {Obstacle.BACKEND}:
        offered = _offered(candidate.deployment.backend for candidate in plan.candidates)
        served = f"{wanted.model} is served by {offered}, not by {wanted.backend}"
        hint = f"; {names.how_to_start(wanted.backend)}" if wanted.backend else ""
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
