"""The manifest beside the files of the store: what they are, where they came from, and what made them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workers.runtime.progress import Report, silent
from workers.runtime.store.hashing import file_sha256

NAME = "manifest.json"
SCHEMA = 1
"""Raised when the manifest's meaning changes; a manifest of another schema counts as missing."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file."""

    name: str
    """Path below the folder, with forward slashes."""
    size: int
    """Bytes."""
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """The source artefact, and where it was had."""

    location: str
    """The source that delivered, as ``pypi:…``, ``hf:…`` with the commit, or ``file:…``."""
    sha256: str
    """Digest of the source artefact, 64 lower-case hex digits."""
    size: int
    """Bytes of the source artefact."""
    modified_ns: int
    """When the source artefact in the store was last changed, nanoseconds since 1970."""
    original_modified_ns: int | None = None
    """The same of the file that it was linked or copied from; ``None`` if it came as a stream."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stands in ``manifest.json``."""

    digest: str
    """sha256 over the sorted lines ``<sha256>  <name>`` of the files, each with its newline."""
    files: tuple[FileRecord, ...]
    """Every file but the manifest."""
    source: SourceRecord
    """What the files were made from; for a source artefact, itself."""
    created: str
    """When, in UTC, ISO 8601."""
    model: str = ""
    """Name of the catalogue entry; empty for a source artefact, as the rest of the fields."""
    backend: str = ""
    """The backend that the files are for."""
    profile: str = ""
    """The precision profile of the files."""
    converter: str = ""
    """Version of the converter that made the files."""
    tools: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Package -> version of the tools that the converter used."""
    schema: int = SCHEMA
    """See :data:`SCHEMA`."""

    def describes(self, folder: Path) -> bool:
        """Whether the files are all there and as long as they should be. Reads no content."""
        try:
            return all((folder / record.name).stat().st_size == record.size for record in self.files)
        except OSError:
            return False


def artefact_digest(files: Iterable[FileRecord]) -> str:
    """The digest that stands for all the files.

    In the folder, and in the C locale, this gives the same::

        find * -type f ! -name manifest.json -exec sha256sum {} + | sort | sha256sum
    """
    lines = sorted(f"{record.sha256}  {record.name}\n" for record in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def record_files(folder: Path, report: Report = silent) -> tuple[FileRecord, ...]:
    """Hash every file of the folder and its subfolders, but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return tuple(
        FileRecord(path.relative_to(folder).as_posix(), path.stat().st_size, file_sha256(path, report))
        for path in paths
    )


def now() -> str:
    """The moment of the call, as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(manifest: Manifest, folder: Path) -> None:
    """Put the manifest beside the files."""
    text = json.dumps(dataclasses.asdict(manifest), indent=2, sort_keys=True)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")


def read(folder: Path) -> Manifest | None:
    """The folder's manifest; ``None`` if there is none, or none that this version understands."""
    try:
        values: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            return None
        values["files"] = tuple(FileRecord(**record) for record in values["files"])
        values["source"] = SourceRecord(**values["source"])
        return Manifest(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None
