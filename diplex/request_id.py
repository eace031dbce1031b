"""The id that names a request in logs on every hop. Free of imports that a client would have to install."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

REQUEST_ID_KEY: Final = "x-request-id"
"""Metadata key under which a request's id travels on every hop."""

_LONGEST_REQUEST_ID: Final = 128


def new_request_id() -> str:
    """A fresh id for a request that brought none."""
    return uuid.uuid4().hex


def request_id_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """The id that a call's metadata names, if it is printable and of sane length, else a fresh one."""
    for key, value in metadata or ():
        if (
            key == REQUEST_ID_KEY
            and isinstance(value, str)
            and 0 < len(value) <= _LONGEST_REQUEST_ID
            and value.isprintable()
        ):
            return value
    return new_request_id()
