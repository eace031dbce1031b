"""The one table between Diplex's errors and gRPC and HTTP status, and the way there and back.

On the wire an error is a ``google.rpc.Status`` in the trailing metadata: ``ErrorInfo`` always, ``BadRequest``
when fields are at fault, ``QuotaFailure`` when a caller's limits are, ``RetryInfo`` when a retry may help
(https://google.aip.dev/193).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from diplex import errors
from diplex.errors import DiplexError, FieldViolation, QuotaViolation

DOMAIN: Final = "diplex"
"""``ErrorInfo.domain`` of every error that Diplex raises."""

DETAILS_KEY: Final = "grpc-status-details-bin"
"""Of the trailing metadata: an error's details, as a ``google.rpc.Status``."""

_LONGEST_MESSAGE: Final = 1500
"""Bytes of a message that are sent, percent-encoded: all trailing metadata together has 8 KiB by default."""

_LONGEST_FIELD: Final = 200
_LONGEST_DESCRIPTION: Final = 400
_MOST_EXCEEDED: Final = 3
_LONGEST_VIOLATIONS: Final = 2500
"""Bytes of field violations that are sent, for the same reason; base64 makes a third more of them."""


@dataclass(frozen=True, slots=True)
class Status:
    """What an error is called on each transport."""

    code: grpc.StatusCode
    http: int


TABLE: Final[dict[type[DiplexError], Status]] = {
    errors.InvalidRequest: Status(grpc.StatusCode.INVALID_ARGUMENT, 400),
    errors.Unauthenticated: Status(grpc.StatusCode.UNAUTHENTICATED, 401),
    errors.PermissionDenied: Status(grpc.StatusCode.PERMISSION_DENIED, 403),
    errors.ModelNotFound: Status(grpc.StatusCode.NOT_FOUND, 404),
    errors.UnsupportedModel: Status(grpc.StatusCode.FAILED_PRECONDITION, 422),
    errors.InvalidCatalogue: Status(grpc.StatusCode.FAILED_PRECONDITION, 500),
    errors.ResourceExhausted: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.MessageTooLarge: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    errors.InsufficientStorage: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 507),
    errors.InsufficientMemory: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 507),
    errors.Unavailable: Status(grpc.StatusCode.UNAVAILABLE, 503),
    errors.DigestMismatch: Status(grpc.StatusCode.DATA_LOSS, 502),
    errors.IdempotencyKeyReused: Status(grpc.StatusCode.ALREADY_EXISTS, 422),
    errors.ResumptionLost: Status(grpc.StatusCode.FAILED_PRECONDITION, 410),
    errors.DeadlineExceeded: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    errors.Cancelled: Status(grpc.StatusCode.CANCELLED, 499),
    errors.NotServed: Status(grpc.StatusCode.UNIMPLEMENTED, 501),
    errors.InternalError: Status(grpc.StatusCode.INTERNAL, 500),
    DiplexError: Status(grpc.StatusCode.UNKNOWN, 500),
}
"""An error that has no row of its own has its parent's."""


def status_of(error: DiplexError) -> Status:
    """The table's row for an error: its class's own, else its nearest ancestor's."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)


def to_rpc_status(error: DiplexError) -> status_pb2.Status:
    """The error as ``google.rpc.Status``, with its details."""
    status = status_pb2.Status(
        code=status_of(error).code.value[0], message=_cut(error.message, _LONGEST_MESSAGE)
    )
    _pack(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.violations:
        _pack(status, _bad_request(error))
    if error.exceeded:
        _pack(status, _quota_failure(error))
    retry_after = error.retry_seconds if error.retry_after is None else error.retry_after
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: grpc.RpcError) -> DiplexError:
    """The error that a peer raised, rebuilt from its details; the nearest one by code if it sent none."""
    # Every RpcError that a call raises is the call itself, or carries the same (grpc.aio.AioRpcError).
    try:
        status = rpc_status.from_call(cast("grpc.Call", error))
    except ValueError:  # its details speak of another status: something between here and the peer spoke last
        status = None
    return _without_details(error) if status is None else from_rpc_status(status)


def from_rpc_status(status: status_pb2.Status) -> DiplexError:
    """The error that :func:`to_rpc_status` made ``status`` from."""
    info, bad_request, quota, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.QuotaFailure(),
        error_details_pb2.RetryInfo(),
    )
    retry_after: float | None = None
    for detail in status.details:
        if detail.Unpack(info) or detail.Unpack(bad_request) or detail.Unpack(quota):
            continue
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    kind = _BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    return (kind or _BY_CODE.get(status.code, DiplexError))(
        status.message,
        violations=[FieldViolation(v.field, v.description) for v in bad_request.field_violations],
        metadata=dict(info.metadata),
        retry_after=retry_after,
        exceeded=[QuotaViolation(v.subject, v.description) for v in quota.violations],
    )


def _without_details(error: grpc.RpcError) -> DiplexError:
    code: grpc.StatusCode = error.code()
    message: str = error.details() or code.name
    return _BY_CODE.get(code.value[0], DiplexError)(message)


def _bad_request(error: DiplexError) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for violation in error.violations:
        bad_request.field_violations.add(
            field=_cut(violation.field, _LONGEST_FIELD),
            description=_cut(violation.description, _LONGEST_DESCRIPTION),
        )
        if bad_request.ByteSize() > _LONGEST_VIOLATIONS:
            del bad_request.field_violations[-1]
            break
    return bad_request


def _quota_failure(error: DiplexError) -> error_details_pb2.QuotaFailure:
    failure = error_details_pb2.QuotaFailure()
    for violation in error.exceeded[:_MOST_EXCEEDED]:
        failure.violations.add(
            subject=_cut(violation.subject, _LONGEST_FIELD),
            description=_cut(violation.description, _LONGEST_DESCRIPTION),
        )
    return failure


def _cut(text: str, most: int) -> str:
    """The longest beginning of a text that takes at most so many bytes percent-encoded, as gRPC sends it."""
    text = text.encode(errors="replace").decode()  # lone surrogates can't be sent
    size = 0
    for end, letter in enumerate(text):
        size += 1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode())
        if size > most:
            return text[:end]
    return text


def trailing_metadata(status: status_pb2.Status) -> tuple[str, bytes]:
    """The metadata entry that carries an error's details."""
    return DETAILS_KEY, status.SerializeToString()


def _pack(
    status: status_pb2.Status,
    detail: error_details_pb2.ErrorInfo
    | error_details_pb2.BadRequest
    | error_details_pb2.QuotaFailure
    | error_details_pb2.RetryInfo,
) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _tree(kind: type[DiplexError]) -> list[type[DiplexError]]:
    return [kind, *(below for child in kind.__subclasses__() for below in _tree(child))]


CLASSES: Final = tuple(_tree(DiplexError))
"""Every error that has a reason, ancestors first."""

_BY_REASON: Final = {kind.reason: kind for kind in CLASSES}
_BY_CODE: Final = {status.code.value[0]: kind for kind, status in reversed(TABLE.items())}
