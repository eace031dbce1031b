"""API keys: how they look, how one is made, and what is kept of it. Free of imports to install.

A key is ``dpx-ID-SECRET``. The id, which is not secret, finds the key's entry; the entry holds the SHA-256 of
the whole key. The secret has 256 random bits, so nothing slower than SHA-256 is needed against guessing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Final

_FORM: Final = re.compile(r"dpx-([a-z0-9]{12})-([A-Za-z0-9_-]{43})")
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 12
_SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; the only moment at which it is known."""

    key: str
    id: str
    sha256: str


def new_key() -> NewKey:
    """Makes a key from the system's random numbers."""
    name = "".join(secrets.choice(_LETTERS) for _ in range(_ID_LENGTH))
    key = f"dpx-{name}-{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewKey(key, name, digest_of(key))


def id_of(text: str) -> str | None:
    """The id in a key; ``None`` if the text is no key of this form."""
    match = _FORM.fullmatch(text)
    return match.group(1) if match else None


def digest_of(key: str) -> str:
    """What an entry keeps of a key: its SHA-256, in hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def matches(key: str, sha256: str) -> bool:
    """Whether it is the key of an entry; takes as long for every wrong one."""
    return hmac.compare_digest(digest_of(key), sha256)
