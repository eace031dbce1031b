"""The table between errors and status, and the way there and back."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from diplex import errors, status
from diplex.errors import DiplexError, FieldViolation, QuotaViolation

CODES = {
    errors.InvalidRequest: ("INVALID_ARGUMENT", 400),
    errors.UnsupportedFeature: ("INVALID_ARGUMENT", 400),
    errors.ContextLengthExceeded: ("INVALID_ARGUMENT", 400),
    errors.MalformedMessage: ("INVALID_ARGUMENT", 400),
    errors.InvalidCatalogue: ("FAILED_PRECONDITION", 500),
    errors.Unauthenticated: ("UNAUTHENTICATED", 401),
    errors.PermissionDenied: ("PERMISSION_DENIED", 403),
    errors.ModelNotFound: ("NOT_FOUND", 404),
    errors.UnsupportedModel: ("FAILED_PRECONDITION", 422),
    errors.LicenceNotAccepted: ("FAILED_PRECONDITION", 422),
    errors.BackendNotRunning: ("FAILED_PRECONDITION", 422),
    errors.ResourceExhausted: ("RESOURCE_EXHAUSTED", 429),
    errors.QueueFull: ("RESOURCE_EXHAUSTED", 429),
    errors.RateLimited: ("RESOURCE_EXHAUSTED", 429),
    errors.QuotaExceeded: ("RESOURCE_EXHAUSTED", 429),
    errors.DeadlineUnreachable: ("RESOURCE_EXHAUSTED", 429),
    errors.MessageTooLarge: ("RESOURCE_EXHAUSTED", 413),
    errors.InsufficientStorage: ("RESOURCE_EXHAUSTED", 507),
    errors.InsufficientMemory: ("RESOURCE_EXHAUSTED", 507),
    errors.Unavailable: ("UNAVAILABLE", 503),
    errors.NoWorker: ("UNAVAILABLE", 503),
    errors.ModelLoading: ("UNAVAILABLE", 503),
    errors.EngineCrashed: ("UNAVAILABLE", 503),
    errors.WorkerLost: ("UNAVAILABLE", 503),
    errors.Draining: ("UNAVAILABLE", 503),
    errors.SourceUnavailable: ("UNAVAILABLE", 503),
    errors.DigestMismatch: ("DATA_LOSS", 502),
    errors.IdempotencyKeyReused: ("ALREADY_EXISTS", 422),
    errors.ResumptionLost: ("FAILED_PRECONDITION", 410),
    errors.DeadlineExceeded: ("DEADLINE_EXCEEDED", 504),
    errors.Cancelled: ("CANCELLED", 499),
    errors.NotServed: ("UNIMPLEMENTED", 501),
    errors.InternalError: ("INTERNAL", 500),
    DiplexError: ("UNKNOWN", 500),
}


def every_class(kind=DiplexError):
    """The tree below and with ``kind``."""
    return [kind, *(below for child in kind.__subclasses__() for below in every_class(child))]


def there_and_back(error):
    sent = status.to_rpc_status(error).SerializeToString()
    return status.from_rpc_status(status_pb2.Status.FromString(sent))


def test_this_file_knows_every_class():
    assert set(every_class()) == set(CODES)


@pytest.mark.parametrize(("kind", "expected"), CODES.items(), ids=lambda it: getattr(it, "__name__", ""))
def test_code(kind, expected):
    row = status.status_of(kind("text"))
    assert (row.code.name, row.http) == expected


def test_reasons_are_constants_and_differ():
    reasons = [kind.reason for kind in every_class()]
    assert len(set(reasons)) == len(reasons)
    assert all(reason == reason.upper() for reason in reasons)


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_there_and_back(kind):
    violations = [FieldViolation("chat.messages[0].parts", "is empty"), FieldViolation("prompt", "größer")]
    exceeded = [QuotaViolation("key:größer", "60 requests a minute")]
    error = kind(
        "größer als 語",
        violations=violations,
        metadata={"model": "tiny"},
        retry_after=1.25,
        exceeded=exceeded,
    )
    back = there_and_back(error)
    assert type(back) is kind
    assert (back.message, back.violations) == (error.message, error.violations)
    assert (back.metadata, back.retry_after) == (error.metadata, error.retry_after)
    assert back.exceeded == error.exceeded


def test_optional_details_are_left_out():
    sent = status.to_rpc_status(errors.ModelNotFound("text"))
    assert [detail.TypeName() for detail in sent.details] == ["google.rpc.ErrorInfo"]
    back = there_and_back(errors.ModelNotFound("text"))
    assert (back.violations, back.metadata, back.retry_after, back.exceeded) == ((), {}, None, ())


@pytest.mark.parametrize("letter", ["x", "é", "語", "😀"])
def test_long_texts_are_cut_at_whole_characters(letter):
    text = letter * 5000
    back = there_and_back(errors.InvalidRequest(text, violations=[FieldViolation(text, text)] * 50))
    assert 0 < len(back.message) < len(text)
    assert text.startswith(back.message)
    assert 0 < len(back.violations) < 50
    assert all(text.startswith(it.field) and text.startswith(it.description) for it in back.violations)


@pytest.mark.parametrize(
    ("code", "kind"),
    {
        "INVALID_ARGUMENT": errors.InvalidRequest,
        "UNAUTHENTICATED": errors.Unauthenticated,
        "PERMISSION_DENIED": errors.PermissionDenied,
        "NOT_FOUND": errors.ModelNotFound,
        "FAILED_PRECONDITION": errors.UnsupportedModel,
        "RESOURCE_EXHAUSTED": errors.ResourceExhausted,
        "UNAVAILABLE": errors.Unavailable,
        "DATA_LOSS": errors.DigestMismatch,
        "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
        "CANCELLED": errors.Cancelled,
        "UNIMPLEMENTED": errors.NotServed,
        "INTERNAL": errors.InternalError,
        "UNKNOWN": DiplexError,
        "ABORTED": DiplexError,
    }.items(),
)
def test_a_bare_code_is_the_nearest_error(code, kind):
    bare = grpc.aio.AioRpcError(
        grpc.StatusCode[code], grpc.aio.Metadata(), grpc.aio.Metadata(), details="why"
    )
    error = status.from_rpc_error(bare)
    assert type(error) is kind
    assert error.message == "why"


def test_a_bare_code_without_text_is_named():
    bare = grpc.aio.AioRpcError(grpc.StatusCode.ABORTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    assert status.from_rpc_error(bare).message == "ABORTED"


def test_anothers_reason_is_not_ours():
    foreign = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="text")
    foreign.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL", domain="example.org"))
    assert type(status.from_rpc_status(foreign)) is errors.Unavailable


def test_an_unknown_reason_of_ours_is_the_nearest_by_code():
    newer = status_pb2.Status(code=grpc.StatusCode.NOT_FOUND.value[0], message="text")
    newer.details.add().Pack(error_details_pb2.ErrorInfo(reason="ADDED_LATER", domain=status.DOMAIN))
    assert type(status.from_rpc_status(newer)) is errors.ModelNotFound
