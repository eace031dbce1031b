"""Folders of files as source artefacts in the store: all of a folder's files, or none."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from workers.runtime.catalogue import DiskFolder, FolderSource, Source, SourceFolder
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import manifest as manifests
from workers.runtime.store import space
from workers.runtime.store.admission import admit
from workers.runtime.store.blobs import Blob
from workers.runtime.store.home import Home
from workers.runtime.store.manifest import FileRecord, Manifest, SourceRecord
from workers.runtime.store.publication import locked, published
from workers.runtime.store.sources.delivery import Delivery, SourceFailed, WrongBytes
from workers.runtime.store.sources.folders import Member, deliver, on_disk
from workers.runtime.store.verdict import verdict


class Folders:
    """The source artefacts of a store that are folders.

    Args:
        home: The store's folders.
    """

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, folder: SourceFolder) -> Blob | None:
        """The folder if it is there, and still what lies where it was had; reads no content."""
        place = self._place(folder)
        manifest = manifests.read(place)
        if manifest is None or not manifest.describes(place):
            return None
        # A file linked from elsewhere can be written to from there; then it is no longer what was checked.
        if _newest(place / record.name for record in manifest.files) != manifest.source.modified_ns:
            return None
        return Blob(place, manifest.source) if made_from(manifest.source, folder) else None

    def ensure(self, folder: SourceFolder, report: Report) -> Blob:
        """The folder, fetched if it isn't there.

        Raises:
            SourceUnavailable: No source could deliver; the message has each one's reason.
            DigestMismatch: A source that was checked once, or every source, delivered other bytes.
            UnsupportedModel: A source holds no folder of that format.
            InsufficientStorage: The disk is full.
        """
        place = self._place(folder)
        partial = self._home.partial(place)
        found = self.find(folder)
        if found is not None and not partial.exists():
            return found
        with (
            space.explained(self._home.root, f"store {folder.name}"),
            locked(self._home.lock(place), Phase.DOWNLOAD, f"downloading {folder.name}", report),
        ):
            found = self.find(folder) or self._fetch(folder, place, report)
            shutil.rmtree(partial, ignore_errors=True)
        return found

    def _place(self, folder: SourceFolder) -> Path:
        if folder.sha256 is not None:
            return self._home.blob(folder.sha256)
        lines = [folder.sources[0].location, folder.format, *(file.path for file in folder.files)]
        if folder.code_allowed:
            lines.append("with its code")
        return self._home.folder(hashlib.sha256("\n".join(lines).encode()).hexdigest())

    def _fetch(self, folder: SourceFolder, place: Path, report: Report) -> Blob:
        failures: list[tuple[Source | FolderSource, SourceFailed]] = []
        partial = self._home.partial(place)
        for source in folder.sources:
            partial.mkdir(parents=True, exist_ok=True)
            try:
                members, location = deliver(source, folder, partial, report)
                return _take(members, location, place, source, report)
            except WrongBytes as failure:
                shutil.rmtree(partial, ignore_errors=True)
                failures.append((source, failure))
            except SourceFailed as failure:
                failures.append((source, failure))
            except OSError as error:
                if not space.is_full(error):
                    raise
                # A full disk stops more than us: give back what we took.
                shutil.rmtree(partial, ignore_errors=True)
                raise
        raise verdict(folder.name, folder.sha256, failures)


def made_from(record: SourceRecord, folder: SourceFolder) -> bool:
    """Whether the catalogue still means the folder that the record tells of; reads no content."""
    if folder.sha256 is not None:
        return record.sha256 == folder.sha256
    (source,) = folder.sources
    if record.location != source.location:
        return False
    if not isinstance(source, DiskFolder):
        return True
    try:
        files = [source.path / file.path for file in on_disk(source, folder)]
        size = sum(file.stat().st_size for file in files)
    except (OSError, SourceFailed):  # gone, which takes nothing from what was made from it
        return True
    return (size, _newest(files)) == (record.size, record.original_modified_ns)


def _take(members: list[Member], location: str, place: Path, source: FolderSource, report: Report) -> Blob:
    total = sum(member.file.stat().st_size for member in members)
    original = _newest(member.file for member in members) if isinstance(source, DiskFolder) else None
    with published(place) as staging:
        records: list[FileRecord] = []
        for member in members:
            records.append(_admitted(member, staging, sum(record.size for record in records), total, report))
        modified = _newest(staging / record.name for record in records)
        digest = manifests.artefact_digest(records)
        found = SourceRecord(location, digest, total, modified, original)
        manifests.write(Manifest(digest, tuple(records), found, manifests.now()), staging)
    return Blob(place, found)


def _admitted(member: Member, staging: Path, done: int, total: int, report: Report) -> FileRecord:
    target = staging / member.wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)

    def shifted(progress: Progress) -> None:
        report(Progress(progress.phase, done + progress.done, total, progress.detail))

    with member.file.open("rb") as stream:
        record = admit(Delivery("", stream, member.file), target, member.wanted.size, shifted)
    if member.wanted.sha256 is not None and record.sha256 != member.wanted.sha256:
        raise WrongBytes(f"sha256 of {member.wanted.path} is {record.sha256} and not {member.wanted.sha256}")
    return FileRecord(member.wanted.path, record.size, record.sha256)


def _newest(files: Iterable[Path]) -> int:
    return max(file.stat().st_mtime_ns for file in files)
