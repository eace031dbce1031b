"""What a source hands to the store, and how it says that it can't."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO


class SourceFailed(Exception):
    """A source could not deliver; the text is the reason, for a person. Never leaves the store."""


class WrongBytes(SourceFailed):
    """A source delivered, but not the bytes that the catalogue names."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A source artefact that is ready to be taken into the store, its digest not yet checked."""

    location: str
    """Where it was had, with the revision that was found."""
    stream: IO[bytes]
    """Its bytes, from the first on."""
    file: Path | None = None
    """A file with the same bytes that may be linked instead of copied; ``None`` if there is none."""
