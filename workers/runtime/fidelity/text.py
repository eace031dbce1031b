"""The fixed text that certificates are made over, so that their figures can be compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its fingerprint."""

    content: str
    """English prose, dialogue, explanations, lists; code in Python, JavaScript and SQL; over 2,000 tokens."""
    sha256: str
    """SHA-256 of its UTF-8 bytes, in hexadecimal."""


def fixed_text() -> Text:
    """Read the text that lies beside this module. Changing it makes older certificates incomparable."""
    content = files(__package__).joinpath("text.txt").read_bytes()
    return Text(content.decode("utf-8"), hashlib.sha256(content).hexdigest())
