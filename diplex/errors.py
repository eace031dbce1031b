"""The errors that Diplex raises, on every side of the wire.

One tree, free of transport codes; ``diplex.status`` holds the one table between it and gRPC and HTTP::

    DiplexError
    ├── InvalidRequest            the request can never succeed as it is; names the fields
    │   ├── UnsupportedFeature    a field asks for what this model or server can't do
    │   ├── ContextLengthExceeded prompt and max_tokens don't fit the model's context
    │   └── MalformedMessage      bytes that are no protobuf message of the expected type
    ├── Unauthenticated           no credentials, or none that hold
    ├── PermissionDenied          who asks is known and may not do this
    ├── ModelNotFound             nobody serves or knows that model
    ├── UnsupportedModel          the model is known, but can't be converted or served here
    │   ├── LicenceNotAccepted    nobody has agreed to the model's terms on this machine
    │   └── BackendNotRunning     no worker is of a backend that has the model
    ├── ResourceExhausted
    │   ├── QueueFull             the waiting queue is at its limit
    │   ├── RateLimited           the caller's requests or tokens of the last moments are at its limit
    │   ├── QuotaExceeded         the caller's requests or tokens of the hour or day are spent
    │   ├── DeadlineUnreachable   the predicted wait and work are longer than the caller's deadline
    │   ├── MessageTooLarge       the request is over the policy limit
    │   ├── InsufficientStorage   the model store's disk is full
    │   └── InsufficientMemory    the model doesn't fit the memory budget beside what has to stay
    ├── Unavailable               try again: the next attempt may succeed
    │   ├── NoWorker              no worker is connected
    │   ├── ModelLoading          the model is known and not ready yet
    │   ├── EngineCrashed         the engine process died under the request
    │   ├── WorkerLost            the connection to the worker broke
    │   ├── Draining              the server is shutting down
    │   └── SourceUnavailable     no source of a model's artefact could be reached
    ├── InvalidCatalogue          a catalogue file can't be read or says what can't be
    ├── DigestMismatch            what was downloaded is not what the catalogue names
    ├── IdempotencyKeyReused      the key names another request's generation
    ├── ResumptionLost            nobody holds the stream that is to be taken up
    ├── DeadlineExceeded          the caller's deadline passed
    ├── Cancelled                 the caller went away
    ├── NotServed                 an RPC that this version names but does not serve yet
    └── InternalError             a defect in Diplex
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request and what is wrong with it."""

    field: str
    """Path of the field in the request, as ``sampling.temperature`` or ``chat.messages[2].parts[0]``."""
    description: str
    """What is wrong and what would be right, as a sentence without a full stop."""


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One limit of a caller that a request would pass."""

    subject: str
    """Whose limit, as ``key:team-a``."""
    description: str
    """Which limit, as a sentence without a full stop."""


class DiplexError(Exception):
    """Base of everything that Diplex raises on purpose.

    Args:
        message: What happened and what to do next, for a person.
        violations: The fields at fault, if the request is.
        metadata: Machine-readable facts, sent as ``ErrorInfo.metadata``.
        retry_after: Seconds after which a retry may succeed; ``None``: see :attr:`retry_seconds`.
        exceeded: The limits at fault, if some are.
    """

    reason: ClassVar[str] = "UNKNOWN"
    """Constant that tells apart errors of one transport code, sent as ``ErrorInfo.reason``."""
    advice: ClassVar[str] = "look at the message"
    """What to do about it: a line for ``docs/errors.md``."""
    details: ClassVar[tuple[str, ...]] = ()
    """What of ``google.rpc`` it carries beside ``ErrorInfo`` and ``RetryInfo`` when it goes to a caller."""
    retry_seconds: ClassVar[float | None] = None
    """Sent as ``RetryInfo`` where ``retry_after`` isn't set; ``None``: a retry is not what helps."""

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        exceeded: Sequence[QuotaViolation] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = tuple(violations)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.exceeded = tuple(exceeded)

    @classmethod
    def carried(cls) -> tuple[str, ...]:
        """What of ``google.rpc`` a caller finds beside ``ErrorInfo``."""
        return cls.details if cls.retry_seconds is None else (*cls.details, "RetryInfo")


class InvalidRequest(DiplexError):
    """The request can never succeed as it is."""

    reason = "INVALID_REQUEST"
    advice = "mend the fields that are named"
    details: ClassVar[tuple[str, ...]] = ("BadRequest",)

    @classmethod
    def of_field(cls, field: str, description: str) -> InvalidRequest:
        """The error of a single field."""
        return cls(f"{field}: {description}", violations=[FieldViolation(field, description)])


class UnsupportedFeature(InvalidRequest):
    """A field asks for what this model or this server can't do."""

    reason = "UNSUPPORTED_FEATURE"
    advice = "leave the named field out, or ask another model"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt and ``max_tokens``, don't fit the model's context."""

    reason = "CONTEXT_LENGTH_EXCEEDED"
    advice = "shorten the prompt, or lower `max_tokens`"


class MalformedMessage(InvalidRequest):
    """The bytes received are no message of the expected type."""

    reason = "MALFORMED_MESSAGE"
    advice = "send the message that the proto names"
    details = ()


class Unauthenticated(DiplexError):
    """The call brought no credentials, or none that hold."""

    reason = "UNAUTHENTICATED"
    advice = "send a key or token that holds: see [security.md](security.md)"


class PermissionDenied(DiplexError):
    """Who calls is known, and may not do this."""

    reason = "PERMISSION_DENIED"
    advice = "ask the operator for the right that is named"


class ModelNotFound(DiplexError):
    """No worker serves, and no catalogue knows, the model."""

    reason = "MODEL_NOT_FOUND"
    advice = "take one of the names in the message"


class UnsupportedModel(DiplexError):
    """The model can't be converted or served by this backend."""

    reason = "UNSUPPORTED_MODEL"
    advice = "see [models.md](models.md) for what can be converted"


class LicenceNotAccepted(UnsupportedModel):
    """The model may be downloaded once its terms have been agreed to."""

    reason = "LICENCE_NOT_ACCEPTED"
    advice = "agree to the model's terms: see [models.md](models.md#terms)"


class BackendNotRunning(UnsupportedModel):
    """The model is for a backend that no worker is of."""

    reason = "BACKEND_NOT_RUNNING"
    advice = "have the operator start a worker of the backend that is named"


class ResourceExhausted(DiplexError):
    """A limit was reached."""

    reason = "RESOURCE_EXHAUSTED"
    advice = "come back later"


class QueueFull(ResourceExhausted):
    """The model's waiting queue is at its limit."""

    reason = "QUEUE_FULL"
    advice = "come back after the delay, or add workers"
    retry_seconds = 1.0


class RateLimited(ResourceExhausted):
    """The caller's requests or tokens of the last seconds, or those under way, are at its limit."""

    reason = "RATE_LIMITED"
    advice = "come back after the delay, or ask for less at a time"
    details = ("QuotaFailure",)
    retry_seconds = 1.0


class QuotaExceeded(ResourceExhausted):
    """The caller's requests or tokens of the hour or the day are spent."""

    reason = "QUOTA_EXCEEDED"
    advice = "come back after the delay, or ask the operator for more"
    details = ("QuotaFailure",)
    retry_seconds = 60.0


class DeadlineUnreachable(ResourceExhausted):
    """By the rates that were measured, the answer would come after the caller's deadline."""

    reason = "DEADLINE_UNREACHABLE"
    advice = (
        "send the same request again after the delay, or allow more time: see [admission.md](admission.md)"
    )
    retry_seconds = 1.0


class MessageTooLarge(ResourceExhausted):
    """The request is larger than the server's policy allows."""

    reason = "MESSAGE_TOO_LARGE"
    advice = "send less, or raise `max_message_mib`"


class InsufficientStorage(ResourceExhausted):
    """The disk that holds the model store is full."""

    reason = "INSUFFICIENT_STORAGE"
    advice = "free disk space for the model store"


class InsufficientMemory(ResourceExhausted):
    """A model doesn't fit the worker's memory budget beside what has to stay."""

    reason = "INSUFFICIENT_MEMORY"
    advice = "do what the message says; see [memory.md](memory.md)"


class Unavailable(DiplexError):
    """The server can't answer now; another attempt may succeed."""

    reason = "UNAVAILABLE"
    advice = "try again"
    retry_seconds = 1.0


class NoWorker(Unavailable):
    """The gateway is connected to no worker."""

    reason = "NO_WORKER"
    advice = "start a worker, or look why none connects"


class ModelLoading(Unavailable):
    """The model is known to a worker and not ready yet."""

    reason = "MODEL_LOADING"
    advice = "try again when it is ready"


class EngineCrashed(Unavailable):
    """The engine process died while it held the request."""

    reason = "ENGINE_CRASHED"
    advice = "try again; the engine is being restarted"


class WorkerLost(Unavailable):
    """The connection between gateway and worker broke."""

    reason = "WORKER_LOST"
    advice = "try again"


class Draining(Unavailable):
    """The server is shutting down and takes no new requests."""

    reason = "DRAINING"
    advice = "try again: another server, or this one's successor, answers"


class SourceUnavailable(Unavailable):
    """None of an artefact's sources could be reached."""

    reason = "SOURCE_UNAVAILABLE"
    advice = "look at the reasons in the message; try again"


class InvalidCatalogue(DiplexError):
    """A catalogue file can't be read, or says what can't be; the message names file, entry and key."""

    reason = "INVALID_CATALOGUE"
    advice = "mend the catalogue file at the key that is named"


class DigestMismatch(DiplexError):
    """The bytes of an artefact are not those that the catalogue names."""

    reason = "DIGEST_MISMATCH"
    advice = "don't trust the source; report it"


class IdempotencyKeyReused(DiplexError):
    """The idempotency key names the generation of another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"
    advice = "take a fresh key for every request: see [resilience.md](resilience.md)"


class ResumptionLost(DiplexError):
    """The stream that is to be taken up isn't held here, and no tokens say what it was."""

    reason = "RESUMPTION_LOST"
    advice = "send the tokens of the events that arrived, or begin anew: see [resilience.md](resilience.md)"


class DeadlineExceeded(DiplexError):
    """The caller's deadline passed."""

    reason = "DEADLINE_EXCEEDED"
    advice = "allow more time, or ask for less"


class Cancelled(DiplexError):
    """The caller cancelled the request."""

    reason = "CANCELLED"
    advice = "nothing: the caller wanted it so"


class NotServed(DiplexError):
    """The RPC is part of the contract and not served by this version."""

    reason = "NOT_SERVED"
    advice = "this version doesn't serve the RPC"


class InternalError(DiplexError):
    """A defect in Diplex; the log has the traceback."""

    reason = "INTERNAL"
    advice = "report it, with the request id"
