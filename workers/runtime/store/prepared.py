"""Artefacts in the form in which a backend opens them, and what makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.progress import Report
from workers.runtime.store.manifest import Manifest


class Prepare(Protocol):
    """A converter from a source artefact to the files that a backend opens."""

    @property
    def version(self) -> str:
        """Changed whenever the same source would give other files: what older versions made is made again."""

    def __call__(self, source: Path, target: Path, *, profile: str, report: Report) -> Mapping[str, str]:
        """Convert.

        Args:
            source: The source artefact, only to be read.
            target: An empty folder for the files; subfolders are fine, and so is being killed half-way.
            profile: The precision profile.
            report: Told the progress, in the CONVERT phase.

        Returns:
            Package -> version of the tools used, for the manifest.

        Raises:
            UnsupportedModel: The source can't be converted.
        """


@dataclass(frozen=True, slots=True)
class PreparedArtefact:
    """A prepared artefact that lies in the store, whole."""

    folder: Path
    """Holds the files and the manifest."""
    manifest: Manifest
    """What the files are and how they were made."""
    certificate: Certificate | None
    """The catalogue's fidelity figures, if they were measured on exactly these files."""

    @property
    def digest(self) -> str:
        """Stands for all the files; 64 lower-case hex digits."""
        return self.manifest.digest
