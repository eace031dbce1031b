"""The model store: from a catalogue entry to files that a backend can open."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from diplex.errors import DigestMismatch, InternalError
from workers.runtime.catalogue import (
    Artefact,
    BackendEntry,
    DiskSource,
    ModelEntry,
    Profile,
    SourceArtefact,
    SourceFolder,
    Terms,
)
from workers.runtime.progress import Phase, Report, silent
from workers.runtime.store import manifest as manifests
from workers.runtime.store import space
from workers.runtime.store.agreements import Agreements
from workers.runtime.store.blobs import Blob, Blobs
from workers.runtime.store.folders import Folders, made_from
from workers.runtime.store.hashing import file_sha256
from workers.runtime.store.home import Home
from workers.runtime.store.manifest import Manifest, SourceRecord
from workers.runtime.store.prepared import Prepare, PreparedArtefact
from workers.runtime.store.publication import has_leftovers, locked, published, remove_leftovers


@dataclass(frozen=True, slots=True)
class _Target:
    """One prepared artefact, whether it is there or not."""

    entry: ModelEntry
    section: BackendEntry
    profile: Profile
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.entry.name}/{self.profile.name}"


class Store:
    """Downloads, prepares and finds artefacts. Safe for any number of processes and threads on one folder.

    Nothing half-made is ever found in it: files are written in a folder beside, flushed, and renamed.

    Args:
        home: The store's folder; made when something is stored.
        accepted: Names of terms of models that whoever runs this process agrees to.
    """

    def __init__(self, home: Path, accepted: Collection[str] = ()) -> None:
        self.home = home
        self.accepted = frozenset(accepted)
        """Names of terms that this process agrees to."""
        self._home = Home(home)
        self._blobs = Blobs(self._home)
        self._folders = Folders(self._home)
        self._agreements = Agreements(self._home, accepted)

    def find(
        self, entry: ModelEntry, backend: str, profile: str | None = None, *, version: str | None = None
    ) -> PreparedArtefact | None:
        """The prepared artefact if it is there; looks at sizes and manifest, and reads no content.

        Args:
            entry: The model.
            backend: As ``onnx``.
            profile: The precision profile; the backend's default if ``None``.
            version: The converter version that must have made it; any if ``None``.

        Raises:
            UnsupportedModel: The catalogue has nothing for that backend.
            ModelNotFound: The backend has no such profile.
        """
        return _find(self._target(entry, backend, profile), version)

    def ensure(
        self, entry: ModelEntry, backend: str, profile: str | None, prepare: Prepare, report: Report = silent
    ) -> PreparedArtefact:
        """The prepared artefact, downloaded and converted as far as needed.

        Made again if its source, the converter's version or its files are no longer those of the manifest.

        Raises:
            UnsupportedModel: The catalogue has nothing for that backend, or the source can't be converted.
            ModelNotFound: The backend has no such profile.
            LicenceNotAccepted: It isn't there, and nobody has agreed to its terms.
            SourceUnavailable: No source could deliver; the message has each one's reason.
            DigestMismatch: What was delivered is not what the catalogue names.
            InsufficientStorage: The disk is full; nothing half-made is left.
        """
        target = self._target(entry, backend, profile)
        found = _find(target, prepare.version)
        if found is not None and not has_leftovers(target.folder):
            return found
        with (
            space.explained(self.home, f"prepare {target.name}"),
            locked(self._home.lock(target.folder), Phase.CONVERT, f"preparing {target.name}", report),
        ):
            remove_leftovers(target.folder)
            found = _find(target, prepare.version)  # another process may have made it while this one waited
            if found is None:
                blob = self._fetch(entry, backend, report)
                found = _prepare(target, blob, prepare, report)
        return found

    def source(self, entry: ModelEntry, backend: str, report: Report = silent) -> Path:
        """The source artefact, a file or a folder of files, downloaded if it isn't there.

        Raises:
            UnsupportedModel: The catalogue has nothing for that backend.
            LicenceNotAccepted: It isn't there, and nobody has agreed to its terms.
            SourceUnavailable: No source could deliver; the message has each one's reason.
            DigestMismatch: What was delivered is not what the catalogue names.
            InsufficientStorage: The disk is full.
        """
        return self._fetch(entry, backend, report).path

    def fetch(self, artefact: SourceArtefact, report: Report = silent) -> Path:
        """A file that belongs to no entry yet, downloaded if it isn't there; errors as :meth:`source`."""
        return self._blobs.ensure(artefact, report).path

    def open_terms(self, entry: ModelEntry, backend: str) -> Terms | None:
        """What must be agreed to before the source artefact can be downloaded; ``None`` if nothing."""
        if entry.terms is None or self._blob(entry.backend(backend).artefact) is not None:
            return None
        return None if self._agreements.holds(entry.terms) else entry.terms

    def agree(self, terms: Terms) -> None:
        """Remember that somebody has agreed to the terms."""
        self._agreements.record(terms)

    def verify(self, artefact: PreparedArtefact, report: Report = silent) -> None:
        """Read every file of a prepared artefact and compare it with the manifest.

        Raises:
            DigestMismatch: A file is missing or has changed.
        """
        damaged = []
        for record in artefact.manifest.files:
            path = artefact.folder / record.name
            if not path.is_file() or file_sha256(path, report) != record.sha256:
                damaged.append(record.name)
        if damaged:
            raise DigestMismatch(
                f"changed since they were prepared: {', '.join(damaged)}; "
                f"remove the folder {artefact.folder} and the model is prepared again when it is next used",
                metadata={"digest": artefact.digest},
            )

    def _fetch(self, entry: ModelEntry, backend: str, report: Report) -> Blob:
        if (terms := self.open_terms(entry, backend)) is not None:
            self._agreements.require(terms, entry.name)
        artefact = entry.backend(backend).artefact
        if isinstance(artefact, SourceFolder):
            return self._folders.ensure(artefact, report)
        return self._blobs.ensure(artefact, report)

    def _blob(self, artefact: Artefact) -> Blob | None:
        if isinstance(artefact, SourceFolder):
            return self._folders.find(artefact)
        return self._blobs.find(artefact)

    def _target(self, entry: ModelEntry, backend: str, profile: str | None) -> _Target:
        section = entry.backend(backend)
        wanted = section.profile(profile)
        return _Target(entry, section, wanted, self._home.prepared(entry.name, backend, wanted.name))


def _find(target: _Target, version: str | None) -> PreparedArtefact | None:
    manifest = manifests.read(target.folder)
    if manifest is None or not manifest.describes(target.folder):
        return None
    if version is not None and manifest.converter != version:
        return None
    if not _made_from(manifest.source, target.section.artefact):
        return None
    return _artefact(target, manifest)


def _prepare(target: _Target, blob: Blob, prepare: Prepare, report: Report) -> PreparedArtefact:
    with published(target.folder) as staging:
        tools = prepare(blob.path, staging, profile=target.profile.name, report=report)
        files = manifests.record_files(staging, report)
        if not files:
            raise InternalError(f"the converter made no files for {target.name}")
        manifest = Manifest(
            digest=manifests.artefact_digest(files),
            files=files,
            source=blob.source,
            created=manifests.now(),
            model=target.entry.name,
            backend=target.section.backend,
            profile=target.profile.name,
            converter=prepare.version,
            tools=dict(tools),
        )
        manifests.write(manifest, staging)
    return _artefact(target, manifest)


def _artefact(target: _Target, manifest: Manifest) -> PreparedArtefact:
    certificate = target.profile.certificate if target.profile.digest == manifest.digest else None
    return PreparedArtefact(target.folder, manifest, certificate)


def _made_from(source: SourceRecord, artefact: Artefact) -> bool:
    """Whether the catalogue still means the source artefact that was converted."""
    if isinstance(artefact, SourceFolder):
        return made_from(source, artefact)
    if artefact.sha256 is not None:
        return source.sha256 == artefact.sha256
    (original,) = artefact.sources
    if not isinstance(original, DiskSource) or source.location != original.location:
        return False
    try:
        status = original.path.stat()
    except OSError:  # gone, which takes nothing from what was made from it
        return True
    return (status.st_size, status.st_mtime_ns) == (source.size, source.original_modified_ns)
