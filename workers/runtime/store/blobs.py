"""Source artefacts in the store: fetched from the first source that delivers the right bytes."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from workers.runtime.catalogue import (
    DiskSource,
    FolderSource,
    HubSource,
    IndexSource,
    PartsSource,
    Source,
    SourceArtefact,
)
from workers.runtime.progress import Phase, Report
from workers.runtime.store import manifest as manifests
from workers.runtime.store import space
from workers.runtime.store.admission import admit
from workers.runtime.store.hashing import file_sha256
from workers.runtime.store.home import Home
from workers.runtime.store.manifest import Manifest, SourceRecord
from workers.runtime.store.publication import locked, published
from workers.runtime.store.sources import disk, hub, index, parts
from workers.runtime.store.sources.delivery import Delivery, SourceFailed, WrongBytes
from workers.runtime.store.verdict import unavailable, verdict


@dataclass(frozen=True, slots=True)
class Blob:
    """A source artefact that lies in the store, whole and checked."""

    path: Path
    """The file, or the folder of files."""
    source: SourceRecord
    """Where it was had."""


class Blobs:
    """The source artefacts of a store.

    Args:
        home: The store's folders.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, artefact: SourceArtefact) -> Blob | None:
        """The artefact if it is there; reads no content. Always ``None`` for an artefact without a digest."""
        return self._find(artefact.file, artefact.sha256) if artefact.sha256 else None

    def ensure(self, artefact: SourceArtefact, report: Report) -> Blob:
        """The artefact, fetched if it isn't there.

        Raises:
            SourceUnavailable: No source could deliver; the message has each one's reason.
            DigestMismatch: A source that was checked once, or every source, delivered other bytes.
            InsufficientStorage: The disk is full.
        """
        sha256 = artefact.sha256 or self._digest_on_disk(artefact, report)
        found = self._find(artefact.file, sha256)
        partial = self._home.partial(self._home.blob(sha256))
        if found is not None and not partial.exists():
            return found
        folder = self._home.blob(sha256)
        with (
            space.explained(self._home.root, f"store {artefact.file}"),
            locked(self._home.lock(folder), Phase.DOWNLOAD, f"downloading {artefact.file}", report),
        ):
            found = self._find(artefact.file, sha256) or self._fetch(artefact, sha256, report)
            shutil.rmtree(partial, ignore_errors=True)
        return found

    def _find(self, file: str, sha256: str) -> Blob | None:
        folder = self._home.blob(sha256)
        manifest = manifests.read(folder)
        if manifest is None or not manifest.describes(folder) or manifest.files[0].name != file:
            return None
        path = folder / file
        # A file linked from elsewhere can be written to from there; then it is no longer what was checked.
        unchanged = path.stat().st_mtime_ns == manifest.source.modified_ns
        return Blob(path, manifest.source) if unchanged else None

    @staticmethod
    def _digest_on_disk(artefact: SourceArtefact, report: Report) -> str:
        (source,) = artefact.sources
        if not isinstance(source, DiskSource):  # the catalogue's rule for artefacts without a digest
            raise TypeError(f"{artefact.file} has no digest and no file")
        try:
            return file_sha256(source.path, report)
        except OSError as error:
            raise unavailable(artefact.file, [f"{source.location}: {error.strerror}"]) from error

    def _fetch(self, artefact: SourceArtefact, sha256: str, report: Report) -> Blob:
        failures: list[tuple[Source | FolderSource, SourceFailed]] = []
        partial = self._home.partial(self._home.blob(sha256))
        for source in artefact.sources:
            partial.mkdir(parents=True, exist_ok=True)
            try:
                with _deliver(source, artefact, partial, report) as delivery:
                    return self._take(delivery, artefact, sha256, report)
            except WrongBytes as failure:
                shutil.rmtree(partial, ignore_errors=True)
                failures.append((source, failure))
            except SourceFailed as failure:
                failures.append((source, failure))
            except Exception as error:
                if space.is_full(error):
                    shutil.rmtree(
                        partial, ignore_errors=True
                    )  # a full disk stops more than us: give back what we took
                raise
        raise verdict(artefact.file, sha256, failures)

    def _take(self, delivery: Delivery, artefact: SourceArtefact, sha256: str, report: Report) -> Blob:
        folder = self._home.blob(sha256)
        original = delivery.file.stat().st_mtime_ns if delivery.file is not None else None
        with published(folder) as staging:
            record = admit(delivery, staging / artefact.file, artefact.size, report)
            if record.sha256 != sha256:
                raise WrongBytes(f"sha256 is {record.sha256} and not {sha256}")
            modified = (staging / artefact.file).stat().st_mtime_ns
            source = SourceRecord(delivery.location, sha256, record.size, modified, original)
            digest = manifests.artefact_digest([record])
            manifests.write(Manifest(digest, (record,), source, manifests.now()), staging)
        return Blob(folder / artefact.file, source)


def _deliver(
    source: Source, artefact: SourceArtefact, partial: Path, report: Report
) -> AbstractContextManager[Delivery]:
    match source:
        case IndexSource():
            return index.deliver(source, artefact, partial, report)
        case PartsSource():
            return parts.deliver(source, artefact, partial, report)
        case HubSource():
            return hub.deliver(source, artefact, partial, report)
        case DiskSource():
            return disk.deliver(source)
