"""Source artefacts that are folders of files: in model hub repositories, or on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from workers.runtime.catalogue import (
    DiskFolder,
    FolderSource,
    HubFolder,
    HubSource,
    SourceArtefact,
    SourceFile,
    SourceFolder,
)
from workers.runtime.checkpoint.selection import select
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import space
from workers.runtime.store.sources import hub
from workers.runtime.store.sources.delivery import SourceFailed


@dataclass(frozen=True, slots=True)
class Member:
    """A file that a source has delivered, its digest not yet checked."""

    wanted: SourceFile
    """With the digest that the source itself names, where the catalogue has none."""
    file: Path


def deliver(
    source: FolderSource, folder: SourceFolder, partial: Path, report: Report
) -> tuple[list[Member], str]:
    """Find or download all files of a folder.

    Args:
        source: Where they are had.
        folder: What is wanted.
        partial: Keeps what the next attempt can go on from.
        report: Told the bytes fetched of all files together, in the DOWNLOAD phase.

    Returns:
        The files, and where they were had, with the revision that was found.

    Raises:
        SourceFailed: The source can't be reached, refuses, or lacks a file.
        WrongBytes: A file has another length than the catalogue says.
        UnsupportedModel: The source holds no folder of that format.
        InsufficientStorage: The disk has no room for them.
    """
    match source:
        case DiskFolder():
            return [
                Member(file, source.path / file.path) for file in on_disk(source, folder)
            ], source.location
        case HubFolder():
            return _downloaded(source, folder, partial, report)


def on_disk(source: DiskFolder, folder: SourceFolder) -> tuple[SourceFile, ...]:
    """The files of a folder on this machine.

    Raises:
        SourceFailed: It isn't there, or lacks a file.
        UnsupportedModel: It holds no folder of that format.
    """
    if not source.path.is_dir():
        raise SourceFailed("there is no such folder")
    if missing := [file.path for file in folder.files if not (source.path / file.path).is_file()]:
        raise SourceFailed(f"lacks {', '.join(missing)}")
    if folder.files:
        return folder.files
    present = [path.relative_to(source.path).as_posix() for path in source.path.rglob("*") if path.is_file()]
    return tuple(SourceFile(path) for path in _selected(present, folder))


def _downloaded(
    source: HubFolder, folder: SourceFolder, partial: Path, report: Report
) -> tuple[list[Member], str]:
    files = folder.files or _listed(source, folder)
    sizes = [file.size for file in files]
    known = [size for size in sizes if size is not None]
    total = sum(known) if len(known) == len(sizes) else None
    space.require(partial, sum(known) - _length(partial), f"download {folder.name}")
    members, done, location = [], 0, source.location
    for number, file in enumerate(files):
        place = partial / f"file-{number}"
        place.mkdir(exist_ok=True)
        wanted = HubSource(source.repository, file.path, source.revision, source.unverified)
        fetched = hub.fetch(
            wanted,
            SourceArtefact(file.path, folder.format, (wanted,), file.size, file.sha256),
            place,
            _shifted(report, done, total),
        )
        members.append(Member(replace(file, sha256=file.sha256 or fetched.sha256), fetched.file))
        done += fetched.file.stat().st_size
        location = fetched.location.removesuffix(f"/{file.path}")
    report(Progress(Phase.DOWNLOAD, done, done, folder.name))
    return members, location


def _listed(source: HubFolder, folder: SourceFolder) -> tuple[SourceFile, ...]:
    listing = repository(source)
    chosen = set(_selected([file.path for file in listing.files], folder))
    return tuple(file for file in listing.files if file.path in chosen)


def _selected(paths: list[str], folder: SourceFolder) -> tuple[str, ...]:
    return select(paths, folder.format, folder.name, code=folder.code_allowed)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a hub says about a repository at one commit."""

    revision: str
    """The full commit id."""
    files: tuple[SourceFile, ...]
    """Its files, with their sizes, and digests of large ones."""
    licence: str | None
    """As the model's card names it."""
    gated: bool
    """Whether the hub asks for agreement to terms."""


def repository(source: HubFolder) -> Listing:
    """Ask the hub what a repository holds.

    Raises:
        SourceFailed: The hub can't be reached or refuses.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - slow to import, and mostly not needed

    try:
        found = HfApi().model_info(source.repository, revision=source.revision, files_metadata=True)
    except Exception as error:  # noqa: BLE001 - the library has changed its errors more than once
        hub.fail(error)
    files = tuple(
        SourceFile(each.rfilename, each.size, each.lfs.sha256 if each.lfs else None)
        for each in found.siblings or ()
    )
    if found.sha is None:
        raise SourceFailed(f"the hub names no commit of {source.repository}")
    licence = found.card_data.get("license") if found.card_data else None
    return Listing(found.sha, files, licence if isinstance(licence, str) else None, bool(found.gated))


def _shifted(report: Report, done: int, total: int | None) -> Report:
    """Reports of one file as reports of all: ``done`` bytes were there before it."""

    def shifted(progress: Progress) -> None:
        report(replace(progress, done=done + progress.done, total=total))

    return shifted


def _length(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
