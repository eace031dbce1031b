"""A picture as a request brings it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An encoded picture."""

    data: bytes = field(repr=False)
    """PNG, JPEG, WebP, …"""
    path: str
    """The field of the request that it stands in, for errors."""
    media_type: str = ""
    """What it is said to be, as ``image/png``; empty if nothing is said."""
