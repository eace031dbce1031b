"""What a store has prepared as one tar, for a machine that reaches no source."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Final

from diplex.errors import DigestMismatch, InvalidRequest
from workers.runtime.progress import Phase, Report, silent
from workers.runtime.store import manifest as manifests
from workers.runtime.store.home import Home
from workers.runtime.store.manifest import Manifest
from workers.runtime.store.publication import locked, published

_PREPARED: Final = "prepared/*/[!.]*"
_ADOPTED: Final = "adopted/*/[!.]*.json"


def pack(root: Path, stream: IO[bytes]) -> Iterator[Manifest]:
    """Writes every prepared artefact, and what is remembered of adopted models, as an uncompressed tar.

    Source artefacts are left out: serving doesn't need them.

    Args:
        root: The store's folder.
        stream: Where to; need not be seekable.

    Yields:
        The manifest of each artefact, once it is written.
    """
    # Followed links: the other machine has nothing that they could lead to.
    with tarfile.open(fileobj=stream, mode="w|", dereference=True) as archive:
        for folder in sorted(root.glob(_PREPARED)):
            manifest = manifests.read(folder)
            if manifest is None or not manifest.describes(folder):
                continue
            archive.add(folder, folder.relative_to(root).as_posix())
            yield manifest
        for file in sorted(root.glob(_ADOPTED)):
            archive.add(file, file.relative_to(root).as_posix())


def unpack(root: Path, stream: IO[bytes], report: Report = silent) -> Iterator[Manifest]:
    """Takes a bundle's artefacts into a store; what was there under their names is replaced.

    Every file is compared with its digest first.

    Args:
        root: The store's folder; made if it isn't there.
        stream: A tar that :func:`pack` wrote; need not be seekable.
        report: Told the bytes compared.

    Yields:
        The manifest of each artefact, once it is in the store.

    Raises:
        InvalidRequest: It is no such tar.
        DigestMismatch: A file isn't what its manifest says; those before it are in the store.
    """
    root.mkdir(parents=True, exist_ok=True)
    home = Home(root)
    with tempfile.TemporaryDirectory(dir=root, prefix="unpacking-") as name:
        unpacked = Path(name)
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as archive:
                _extract(archive, unpacked)
        except tarfile.TarError as error:
            raise InvalidRequest(f"that is no bundle of models: {error}") from error
        for file in sorted(unpacked.glob(_ADOPTED)):
            target = root / file.relative_to(unpacked)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        for folder in sorted(unpacked.glob(_PREPARED)):
            manifest = _checked(folder, report)
            target = home.prepared(manifest.model, manifest.backend, manifest.profile)
            purpose = f"{manifest.model}/{manifest.profile}"
            with locked(home.lock(target), Phase.CONVERT, purpose, report), published(target) as staging:
                for each in folder.iterdir():
                    shutil.move(each, staging)
            yield manifest


def _extract(archive: tarfile.TarFile, into: Path) -> None:
    """Takes the files out of a bundle, which has nothing else, and none beside the folder.

    As ``extractall`` with a filter does, which Python has since 3.11.4 only.
    """
    for member in archive:
        if member.isdir():
            continue
        name = PurePosixPath(member.name)
        content = archive.extractfile(member) if member.isfile() else None
        if content is None or name.is_absolute() or ".." in name.parts:
            raise InvalidRequest(f"that is no bundle of models: it holds {member.name}")
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file)


def _checked(folder: Path, report: Report) -> Manifest:
    manifest = manifests.read(folder)
    if manifest is None:
        raise InvalidRequest(f"that is no bundle of models: {folder.name} has no manifest that can be read")
    if manifests.record_files(folder, report) != tuple(sorted(manifest.files, key=lambda file: file.name)):
        raise DigestMismatch(
            f"the files of {manifest.model}/{manifest.profile} aren't those of its manifest: bundle it again",
            metadata={"digest": manifest.digest},
        )
    return manifest
