"""Errors in the shape that OpenAI's clients read, with the codes of the one table in ``diplex.status``."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from diplex import errors, status
from diplex.errors import DiplexError, FieldViolation, InvalidRequest

_CODES: Final = {
    errors.Unauthenticated: "invalid_api_key",
    errors.RateLimited: "rate_limit_exceeded",
    errors.QuotaExceeded: "insufficient_quota",
}
"""Codes that OpenAI's clients know by another name than our reason in lower case."""

_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

_GROUPS: Final = re.compile(r"^(sampling|stopping|output)\.")
_PARTS: Final = re.compile(r"^messages\[(\d+)\]\.parts(\[\d+\])?.*")
_TOOL: Final = re.compile(r"^tools\[(\d+)\]\.(name|description|parameters)(_schema)?")
_NAMES: Final = {
    "idempotency_key": "idempotency-key",
    "tool_choice.mode": "tool_choice",
    "tool_choice.name": "tool_choice",
}


def http_status(error: DiplexError) -> int:
    """The HTTP status of an error."""
    return status.status_of(error).http


def retry_after(error: DiplexError) -> float | None:
    """Seconds after which a retry may help, as ``RetryInfo`` says over gRPC; ``None``: none will."""
    return error.retry_seconds if error.retry_after is None else error.retry_after


def headers(error: DiplexError) -> list[tuple[bytes, bytes]]:
    """Tell a client whether to try again, and when: whole seconds as HTTP has it, exact ones beside."""
    pause = retry_after(error)
    if pause is None:
        return [(b"x-should-retry", b"false")]
    return [
        (b"x-should-retry", b"true"),
        (b"retry-after", str(max(1, math.ceil(pause))).encode()),
        (b"retry-after-ms", str(math.ceil(1000 * pause)).encode()),
    ]


def body(error: DiplexError) -> bytes:
    """The error as JSON: ``{"error": {"message", "type", "code", "param", "diplex"}}``."""
    return json.dumps({"error": as_object(error)}, ensure_ascii=False).encode(errors="replace")


def as_object(error: DiplexError) -> dict[str, Any]:
    """What stands under ``error``; ``diplex`` has what gRPC's details have."""
    code = http_status(error)
    details: dict[str, Any] = {"reason": error.reason, "metadata": error.metadata}
    if error.violations:
        details["violations"] = [
            {"field": fault.field, "description": fault.description} for fault in error.violations
        ]
    if error.exceeded:
        details["exceeded"] = [
            {"subject": limit.subject, "description": limit.description} for limit in error.exceeded
        ]
    return {
        "message": error.message,
        "type": _TYPES.get(code, "invalid_request_error" if code < 500 else "server_error"),  # noqa: PLR2004  # HTTP's classes of codes
        "param": error.violations[0].field if error.violations else None,
        "code": _CODES.get(type(error), error.reason.lower()),
        "diplex": details,
    }


def in_json_names(error: InvalidRequest) -> InvalidRequest:
    """The same error, with the fields called as they are over HTTP."""
    message, violations = error.message, []
    for fault in error.violations:
        name = json_name(fault.field)
        message = message.replace(f"{fault.field}:", f"{name}:")
        violations.append(FieldViolation(name, fault.description))
    return type(error)(message, violations=violations, metadata=error.metadata, retry_after=error.retry_after)


def json_name(field: str) -> str:
    """From the path of a field in the protos to its path in OpenAI's JSON.

    >>> json_name("chat.messages[1].parts[0].image.data")
    'messages[1].content[0]'
    """
    field = field.removeprefix("chat.").replace("tokens.ids", "prompt")
    if field in _NAMES:
        return _NAMES[field]
    if part := _PARTS.match(field):
        return f"messages[{part[1]}].content{part[2] or ''}"
    if tool := _TOOL.match(field):
        return f"tools[{tool[1]}].function.{tool[2]}"
    return _GROUPS.sub("", field)
