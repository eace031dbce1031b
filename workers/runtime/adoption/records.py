"""What is remembered of adopted models: catalogue files of one entry each, in the store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from diplex.errors import InvalidCatalogue
from workers.runtime.catalogue import (
    Artefact,
    DiskFolder,
    DiskSource,
    FolderSource,
    HubFolder,
    HubSource,
    ModelEntry,
    Source,
    SourceFolder,
)
from workers.runtime.catalogue.parsing import read_entries

_SHORT: Final = 6


class Records:
    """The entries of adopted models for one backend.

    Args:
        home: The store.
        backend: As ``onnx``.
    """

    def __init__(self, home: Path, backend: str) -> None:
        self.folder = home / "adopted" / backend
        """Holds the files; need not exist."""
        self._backend = backend

    def file(self, name: str) -> Path:
        """Where the entry of a name is kept."""
        return self.folder / (re.sub(r"[:/]", lambda found: {":": "-", "/": "--"}[found[0]], name) + ".json")

    def find(self, name: str) -> ModelEntry | None:
        """The entry of that name; ``None`` if there is none that can be read."""
        try:
            (entry,) = read_entries(self.file(name))
        except (InvalidCatalogue, ValueError):
            return None
        return entry

    def keep(self, entry: ModelEntry) -> None:
        """Remember an entry, instead of the one of the same name; whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.file(entry.name)
        new = file.with_name(f".{file.name}.{os.getpid()}")
        new.write_text(json.dumps({"model": [_document(entry, self._backend)]}, indent=2), encoding="utf-8")
        new.replace(file)

    def free_name(self, name: str, alias: str) -> str:
        """The name, with something behind it if it is another model's already."""
        taken = self.find(name)
        if taken is None or alias in taken.aliases:
            return name
        return f"{name}-{hashlib.sha256(alias.encode()).hexdigest()[:_SHORT]}"


def _document(entry: ModelEntry, backend: str) -> Mapping[str, Any]:
    section = entry.backend(backend)
    sampling = {key: value for key, value in dataclasses.asdict(entry.sampling).items() if value is not None}
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "architecture": entry.architecture,
        "licence": entry.licence,
        "capabilities": sorted(capability.value for capability in entry.capabilities),
        "context_length": entry.context_length,
        "sampling": sampling,
        backend: {
            "default_profile": section.default_profile,
            "artefact": _artefact(section.artefact),
            "profiles": {profile.name: {} for profile in section.profiles},
        },
    }


def _artefact(artefact: Artefact) -> Mapping[str, Any]:
    if isinstance(artefact, SourceFolder):
        files = [_stated(dataclasses.asdict(file)) for file in artefact.files]
        return {
            "format": artefact.format,
            "sources": [_source(source) for source in artefact.sources],
            **({"files": files} if files else {}),
        }
    return _stated(
        {
            "file": artefact.file,
            "format": artefact.format,
            "size": artefact.size,
            "sha256": artefact.sha256,
            "sources": [_source(source) for source in artefact.sources],
        }
    )


def _source(source: Source | FolderSource) -> Mapping[str, Any]:
    match source:
        case HubFolder():
            return _stated({"hf": source.repository, "revision": source.revision})
        case HubSource():
            return _stated({"hf": source.repository, "path": source.path, "revision": source.revision})
        case DiskFolder():
            return {"folder": str(source.path)}
        case DiskSource():
            return {"file": str(source.path)}
    raise TypeError(f"nothing adopts from {source.location}")


def _stated(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
