"""What a gateway tells of its models and of itself: immutable, typed, without protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from diplex.client.inputs import Backend, Precision


class Health(StrEnum):
    """State of a service, as grpc.health.v1 tells it."""

    UNKNOWN = "unknown"
    SERVING = "serving"
    NOT_SERVING = "not_serving"
    SERVICE_UNKNOWN = "service_unknown"
    """The server has no service of that name."""


class ModelState(StrEnum):
    """What a worker can do with a model."""

    UNSPECIFIED = "unspecified"
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Certificate:
    """How close an artefact is to the full-precision weights."""

    kl: float
    """Mean Kullback-Leibler divergence from the float32 reference, in nats a token."""
    perplexity: float
    reference_perplexity: float
    top1_agreement: float
    """Share of positions with the same most probable token."""
    tokens: int
    """Positions compared."""


class LoadPhase(StrEnum):
    """The steps between a model's name and its first token, in their order."""

    UNSPECIFIED = "unspecified"
    DOWNLOAD = "download"
    VERIFY = "verify"
    CONVERT = "convert"
    LOAD = "load"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far the loading of a model is."""

    phase: LoadPhase
    done: int
    """Bytes in DOWNLOAD, VERIFY and LOAD, tensors in CONVERT, steps elsewhere."""
    total: int | None
    """``None`` when it isn't known."""
    detail: str
    """What is being worked on or waited for, for a person."""
    eta: float | None = None
    """Seconds that the phase will still take, by its pace of late; ``None`` when it isn't known."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model on one worker at one precision."""

    worker: str
    backend: Backend
    precision: Precision
    state: ModelState
    digest: str
    """``sha256:…``; empty until the artefact is prepared."""
    resident_bytes: int
    """Of the engine process, now; 0 when not loaded."""
    predicted_bytes: int
    """The same of an engine that holds no tokens, as predicted before it was loaded; 0 when not known."""
    loaded_bytes: int
    """The same as measured once it was loaded; 0 when not loaded."""
    most_bytes: int
    """What the engine may come to, as the memory budget counts it; 0 when not known."""
    pinned: bool
    """It is unloaded neither for another model nor after a time."""
    slots: int
    """Sequences that can be decoded at the same time."""
    busy_slots: int
    queued: int
    """Requests that wait for a slot."""
    prefill_tokens_per_second: float
    """0 until measured."""
    decode_tokens_per_second: float
    """Over all slots; 0 until measured."""
    certificate: Certificate | None
    """``None`` when nobody measured."""
    detail: str
    """Why the state is what it is, when that helps."""


@dataclass(frozen=True, slots=True)
class Model:
    """One model, and the ways in which it is or could be served."""

    name: str
    aliases: tuple[str, ...]
    architecture: str
    licence: str
    chat: bool
    """Has a chat template."""
    images: bool
    tools: bool
    context_length: int
    """Tokens that prompt and output may have together."""
    vocabulary_size: int
    deployments: tuple[Deployment, ...]


@dataclass(frozen=True, slots=True)
class ModelList:
    """All models that the connected workers advertise."""

    models: tuple[Model, ...]
    default_model: str
    """Serves requests that name none. Empty: such requests are refused."""

    def __iter__(self) -> Iterator[Model]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way in which a request could be served, or why it can't be."""

    model: str
    backend: Backend
    precision: Precision
    worker: str
    reason: str
    """Why it stands where it stands, or why it can't serve."""
    can_serve: bool
