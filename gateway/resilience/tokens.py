"""Resumption tokens: what a client has of a stream, in the client's own hands, so that any gateway can go on.

Each event's token says what the event added to the stream, and has a code that authenticates it together with
all before it: HMAC-SHA256 (RFC 2104), cut to 128 bits, over the code of the event before and the event's own
part. What is before the first one covers the request. So a stream's tokens grow with its text and not with
its square, they belong to one request of one caller, and none can be left out, changed, or put elsewhere.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.fleet.facts import Backend, Precision
from gateway.resilience.relayed import Relayed, Served

_VERSION: Final = 1
_CODE_BYTES: Final = 16
_END: Final = b"."
"""Behind each token: tokens are joined to one text."""
_FIELD: Final = b"\x12"
"""Tag of ``GenerateStreamResponse.resumption_token``: field 2, bytes with their length."""
_LEAST_SECRET: Final = 16
"""Characters of a secret that is worth the name."""


def secrets_of(file: str) -> list[bytes]:
    """The secrets in a file, one a line; a fresh one without a file.

    Raises:
        OSError: It can't be read.
        ValueError: It has none, or one that is too short.
    """
    if not file:
        return [secrets.token_bytes(32)]
    found = [line.strip() for line in Path(file).read_text("utf-8").splitlines() if line.strip()]
    if not found or min(map(len, found)) < _LEAST_SECRET:
        raise ValueError(
            f"resilience.resumption_keys_file {file} has to hold secrets, one a line, of {_LEAST_SECRET} "
            "characters at least; `openssl rand -hex 32` makes one"
        )
    return [line.encode() for line in found]


class Seal:
    """Gives a stream's events their tokens, in their order.

    Args:
        key: The secret.
        code: Of the event before the next one; at the beginning, what the stream belongs to.
    """

    def __init__(self, key: bytes, code: bytes) -> None:
        self._key = key
        self._code = code

    def event(self, response: worker_pb2.GenerateResponse, relayed: Relayed) -> bytes:
        """An event's bytes, with its token.

        Args:
            response: What a worker sent.
            relayed: The stream, this event included.
        """
        if response.kind in (worker_pb2.EVENT_KIND_PROGRESS, worker_pb2.EVENT_KIND_RECEIPT):
            return response.event
        if response.kind == worker_pb2.EVENT_KIND_ACCEPTED:
            part = _head(relayed)
        else:
            added = worker_pb2.GenerateResponse(
                kind=response.kind,
                choice=response.choice,
                token_ids=response.token_ids,
                characters=response.characters,
                completion_tokens=response.completion_tokens,
            )
            part = added.SerializeToString()
        self._code = _code(self._key, self._code, part)
        token = urlsafe_b64encode(self._code + part) + _END
        # A field that is put behind a message's bytes is a field of the message.
        return b"".join((response.event, _FIELD, _varint(len(token)), token))


class Tokens:
    """Seals streams, and opens what clients bring back.

    Args:
        keys: The secrets; the first one seals.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys

    def seal(self, owner: bytes) -> Seal:
        """Seals a stream from its first event.

        Args:
            owner: What the stream belongs to: its request and its caller.
        """
        return Seal(self._keys[0], owner)

    def opened(self, resume: pb.Resume, owner: bytes) -> tuple[Relayed, Seal]:
        """What the client has of a stream, and what seals the events behind that.

        Args:
            resume: What the client sends; not more of its tokens count than it says to have events.
            owner: What the stream must belong to.

        Raises:
            InvalidRequest: The tokens are damaged, or not of a stream of this request and caller.
        """
        tokens = resume.resumption_token.encode().split(_END)[:-1]
        if resume.after_sequence > len(tokens):
            text = f"is {resume.after_sequence}, and the tokens are those of {len(tokens)} events"
            raise InvalidRequest.of_field("resume.after_sequence", text)
        parts = [_parsed(token) for token in tokens[: resume.after_sequence]]
        for key in self._keys:
            if _authentic(key, owner, parts):
                return _relayed([part for _, part in parts]), Seal(key, parts[-1][0])
        raise _damaged()


def _authentic(key: bytes, code: bytes, parts: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the last of the codes is the one that these parts come to."""
    for _, part in parts:
        code = _code(key, code, part)
    return bool(parts) and hmac.compare_digest(code, parts[-1][0])


def _code(key: bytes, before: bytes, part: bytes) -> bytes:
    return hmac.digest(key, before + part, hashlib.sha256)[:_CODE_BYTES]


def _parsed(token: bytes) -> tuple[bytes, bytes]:
    """A token's code and its part."""
    try:
        sealed = urlsafe_b64decode(token)
    except (binascii.Error, ValueError):
        raise _damaged() from None
    return sealed[:_CODE_BYTES], sealed[_CODE_BYTES:]


def _damaged() -> InvalidRequest:
    text = (
        "are not the tokens of a stream of this request, from its first event on; or they were given by a "
        "gateway with other resumption keys"
    )
    return InvalidRequest.of_field("resume.resumption_token", text)


def _head(relayed: Relayed) -> bytes:
    served = relayed.served
    head: dict[str, Any] = {
        "version": _VERSION,
        "seed": relayed.seed,
        "attempts": relayed.attempts,
        "admitted_at": relayed.admitted_at,
        "model": served.model if served else "",
        "backend": served.backend if served else None,
        "precision": served.precision if served else None,
    }
    return json.dumps(head, separators=(",", ":")).encode()


def _relayed(parts: Sequence[bytes]) -> Relayed:
    """A stream from what its events added, which is authentic."""
    try:
        head = json.loads(parts[0])
        if head["version"] != _VERSION:
            raise _damaged()
        relayed = Relayed(head["seed"], attempts=head["attempts"])
        relayed.take(worker_pb2.GenerateResponse(kind=worker_pb2.EVENT_KIND_ACCEPTED), head["admitted_at"])
        backend, precision = head["backend"], head["precision"]
        relayed.served = Served(
            head["model"], Backend(backend) if backend else None, Precision(precision) if precision else None
        )
        for part in parts[1:]:
            relayed.take(worker_pb2.GenerateResponse.FromString(part), 0.0)
    except (DecodeError, KeyError, ValueError):  # a gateway of another version, with our keys
        raise _damaged() from None
    return relayed


def _varint(number: int) -> bytes:
    """Base 128, the lowest group first (https://protobuf.dev/programming-guides/encoding/#varints)."""
    groups = bytearray()
    while number > 127:  # noqa: PLR2004  # the groups' base
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)
