"""What is said about a schema that can't be had, with the place in it."""

from __future__ import annotations

import re
from typing import Final

Path = tuple[str | int, ...]
"""Keys and indices from the root of a schema."""

_PLAIN: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class SchemaRefused(Exception):
    """A schema that isn't enforced.

    Args:
        path: Where in the schema.
        reason: What is wrong there, as a sentence without a full stop.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"at {spell(path)}: {reason}")
        self.path = path
        self.reason = reason


class SchemaInvalid(SchemaRefused):
    """The schema breaks the rules of its draft."""


class SchemaUnsupported(SchemaRefused):
    """The schema is right, but outputs can't be held to it."""


def spell(path: Path) -> str:
    """A path as JSONPath writes it: ``$.properties.tags.items[0]``."""
    return "$" + "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" if _PLAIN.fullmatch(key) else f"[{key!r}]"
        for key in path
    )
