"""What the router reasons with: workers, deployments and a request's wishes, free of protobuf and I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Backend(StrEnum):
    """The kinds of worker, the preferred one first."""

    ONNX = "onnx"
    TORCH = "torch"


class Precision(StrEnum):
    """How a deployment holds its weights; also the suffix that names it, as in ``model/int8``."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"
    INT4 = "int4"
    Q4 = "q4"
    Q4_MIXED = "q4_mixed"
    Q4F16 = "q4f16"


class State(StrEnum):
    """How far a deployment is, the one that answers soonest first."""

    READY = "ready"
    LOADING = "loading"
    RESTARTING = "restarting"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one worker at one precision."""

    model: str
    """Canonical name, as the worker spells it."""
    aliases: tuple[str, ...]
    backend: Backend | None
    """``None``: a kind that this gateway doesn't know."""
    precision: Precision | None
    """``None``: not told, or one that this gateway doesn't know."""
    state: State
    images: bool
    """The model takes images."""
    slots: int
    """Sequences that it decodes at the same time; 0 while it isn't loaded."""
    busy: int
    queued: int
    others: int
    """Of the sequences that are busy or queued, those that this gateway did not send."""
    detail: str
    """The worker's own words for why the state is what it is."""
    most_bytes: int = 0
    """What its engine may come to, as the worker's memory budget counts it; 0 when that isn't known."""
    pinned: bool = False
    """It isn't unloaded to make room for another."""


@dataclass(frozen=True, slots=True)
class Unserved:
    """A model that a worker's catalogue knows, and has for other backends only."""

    model: str
    aliases: tuple[str, ...]
    backends: tuple[Backend, ...]
    """Those that would serve it."""
    reason: str
    """The worker's own words for why it doesn't."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as it last described itself."""

    address: str
    name: str
    """The identity that the worker gives itself; empty before it was first heard."""
    connected: bool
    draining: bool
    deployments: tuple[Deployment, ...]
    """In the worker's order: of one model's, the first is its default profile."""
    ready: bool = False
    """It can answer a request, if need be by loading a model for it."""
    memory_budget: int = 0
    """Bytes that all its engines may take together; 0 without a limit."""
    unserved: tuple[Unserved, ...] = ()
    """What it knows and can't serve."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """All workers that the gateway was told of, at one moment."""

    workers: tuple[Worker, ...]

    @property
    def connected(self) -> tuple[Worker, ...]:
        """Those that can be talked to now."""
        return tuple(worker for worker in self.workers if worker.connected)

    @property
    def models(self) -> dict[str, bool]:
        """Names of all models, and whether each is ready on a worker that takes new requests."""
        models: dict[str, bool] = {}
        for worker in self.workers:
            takes = worker.connected and not worker.draining
            for it in worker.deployments:
                models[it.model] = models.get(it.model, False) or (takes and it.state is State.READY)
        return models

    @property
    def can_answer(self) -> bool:
        """Whether a model is ready, or would be loaded, on a worker that takes new requests."""
        return any(
            worker.ready or any(it.state is State.READY for it in worker.deployments)
            for worker in self.connected
            if not worker.draining
        )


@dataclass(frozen=True, slots=True)
class Prefix:
    """Names for the beginnings of a prompt; equal beginnings have equal names."""

    points: tuple[bytes, ...] = ()
    """Of beginnings that are worth finding again, the shortest first."""
    whole: bytes = b""
    """Of all of it, which a later turn of the conversation begins with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request says about who may serve it."""

    model: str
    """Name or alias, perhaps with a precision behind a slash; empty for the default model."""
    backend: Backend | None = None
    precision: Precision | None = None
    images: tuple[str, ...] = ()
    """Field paths of the request's images."""
    prefix: Prefix | None = None
    """Of what is to be generated from; ``None`` when nothing is."""
