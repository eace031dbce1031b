"""Every row of docs/errors.md, raised by a server and caught behind a real connection."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from diplex import AsyncClient, status
from diplex.errors import FieldViolation, QuotaViolation
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import generation_pb2_grpc
from tests.fake_gateway import FakeGateway

PAGE = Path(__file__).parents[2] / "docs/errors.md"
ROWS = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \| .+ \| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
KINDS = {kind.reason: kind for kind in status.CLASSES}


def raised(reason, details):
    """An error of a reason as code raises it: a retry's delay is left to the class."""
    given = {}
    if "BadRequest" in details:
        given["violations"] = [FieldViolation("sampling.top_p", "größer als 1")]
    if "QuotaFailure" in details:
        given["exceeded"] = [QuotaViolation("key:größer", "60 requests a minute")]
    return KINDS[reason]("größer als 語", metadata={"model": "tiny"}, **given)


def test_the_page_has_a_row_for_every_error():
    assert {row[0] for row in ROWS} == set(KINDS)


@pytest.mark.parametrize(("reason", "code", "http", "listed"), ROWS, ids=[row[0] for row in ROWS])
async def test_a_row(reason, code, http, listed):
    expected = set(re.findall(r"`(\w+)`", listed))
    gateway = FakeGateway(error=raised(reason, expected))
    async with gateway.serving() as address, grpc.aio.insecure_channel(address) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(
                pb.GenerateRequest(prompt="hi"), metadata=[("x-request-id", "row")], timeout=20
            )
        async with AsyncClient(address, patience=0) as client:
            with pytest.raises(KINDS[reason]) as known:
                await client.generate("hi", timeout=20)
    assert type(known.value) is KINDS[reason]
    assert caught.value.code().name == code
    assert status.status_of(known.value).http == int(http)
    check_details(caught.value, reason, expected)


def check_details(error, reason, expected):
    sent = status_pb2.Status.FromString(error.trailing_metadata()["grpc-status-details-bin"])
    assert (sent.code, sent.message) == (error.code().value[0], error.details())
    details = {detail.TypeName().removeprefix("google.rpc."): detail for detail in sent.details}
    assert set(details) == {"ErrorInfo"} | expected
    info = unpacked(details["ErrorInfo"], error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain) == (reason, "diplex")
    assert dict(info.metadata) == {"model": "tiny", "request_id": "row"}
    if "BadRequest" in expected:
        (violation,) = unpacked(details["BadRequest"], error_details_pb2.BadRequest()).field_violations
        assert (violation.field, violation.description) == ("sampling.top_p", "größer als 1")
    if "QuotaFailure" in expected:
        (violation,) = unpacked(details["QuotaFailure"], error_details_pb2.QuotaFailure()).violations
        assert (violation.subject, violation.description) == ("key:größer", "60 requests a minute")
    if "RetryInfo" in expected:
        assert unpacked(details["RetryInfo"], error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() > 0


def unpacked(detail, message):
    assert detail.Unpack(message)
    return message
