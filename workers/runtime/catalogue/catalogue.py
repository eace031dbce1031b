"""The models known by name: the curated file and the user's own files above it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diplex.errors import ModelNotFound
from workers.runtime.catalogue.entries import ModelEntry
from workers.runtime.catalogue.parsing import read_entries
from workers.runtime.catalogue.sources import SourceFolder

CURATED = Path(__file__).with_name("models.toml")
"""The curated catalogue. In the repository this is a link to the file at its root; a wheel holds a copy.
What nobody has verified yet lies in a folder beside it: see :func:`curated_files`."""


def curated_files(curated: Path = CURATED) -> tuple[Path, ...]:
    """The curated file and those in the folder beside it that has its name without the suffix."""
    return (curated, *sorted(curated.with_suffix("").glob("*.toml")))


def overlay_paths(value: str) -> tuple[Path, ...]:
    """The catalogue files that a ``DIPLEX_MODELS`` value names, separated as in ``PATH``."""
    return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)


@dataclass(frozen=True, slots=True)
class Match:
    """What a model's name in a request stands for."""

    entry: ModelEntry
    """The model."""
    profile: str | None
    """The precision profile that the name asks for; ``None`` for the backend's default."""


class Catalogue:
    """Entries that are found by name or alias, in any case.

    Args:
        entries: In the order in which they were read; a later one replaces an earlier one of the same name.
    """

    def __init__(self, entries: Iterable[ModelEntry]) -> None:
        unique = {entry.name.lower(): entry for entry in entries}
        self.entries: tuple[ModelEntry, ...] = tuple(unique.values())
        self._index = {alias.lower(): entry for entry in self.entries for alias in entry.aliases} | unique

    @classmethod
    def load(cls, overlays: Sequence[Path] = (), *, curated: Path = CURATED) -> Catalogue:
        """Read the curated file and then the overlays; of entries with one name the last read wins.

        Raises:
            InvalidCatalogue: A file can't be read or breaks a rule; the message names file, entry and key.
        """
        return cls(entry for file in (*curated_files(curated), *overlays) for entry in read_entries(file))

    def allowing_code(self, names: Collection[str]) -> Catalogue:
        """The same, where publishers' code may run for the models of these names or aliases.

        Raises:
            ModelNotFound: There is no such model.
        """
        allowed = {self.find(name).entry.name for name in names}
        return Catalogue(_allowed(entry) if entry.name in allowed else entry for entry in self.entries)

    def find(self, name: str) -> Match:
        """What ``name``, ``alias``, ``name/profile`` or ``alias/profile`` stands for.

        Raises:
            ModelNotFound: Nothing; the message suggests names that are near.
        """
        entry = self._index.get(name.lower())
        if entry is not None:
            return Match(entry, None)
        base, _, profile = name.rpartition("/")
        entry = self._index.get(base.lower())
        if entry is None:
            raise self._unknown(name)
        known = {p.name.lower(): p.name for backend in entry.backends for p in backend.profiles}
        if profile.lower() not in known:
            names = ", ".join(f"{entry.name}/{known_name}" for known_name in known.values())
            raise ModelNotFound(f"model {entry.name!r} has no profile {profile!r}; there are {names}")
        return Match(entry, known[profile.lower()])

    def _unknown(self, name: str) -> ModelNotFound:
        spelt = {alias.lower(): alias for entry in self.entries for alias in (entry.name, *entry.aliases)}
        near = [spelt[found] for found in difflib.get_close_matches(name.lower(), list(spelt), n=3)]
        names = near or [entry.name for entry in self.entries]
        hint = "did you mean" if near else "the catalogue has"
        return ModelNotFound(
            f"model {name!r} is not in the catalogue; {hint} {', '.join(names)}"
            "; files of your own can be named in DIPLEX_MODELS",
            metadata={"model": name, "suggestions": ",".join(near)},
        )


def _allowed(entry: ModelEntry) -> ModelEntry:
    return replace(
        entry,
        backends=tuple(
            replace(backend, artefact=replace(backend.artefact, code_allowed=True))
            if isinstance(backend.artefact, SourceFolder)
            else backend
            for backend in entry.backends
        ),
    )
