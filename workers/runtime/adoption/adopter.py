"""From the name of a repository or a path to an entry as a catalogue would have it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from diplex.errors import SourceUnavailable, UnsupportedModel
from workers.runtime.adoption.facts import Facts, Formats
from workers.runtime.adoption.names import DiskName, HubName
from workers.runtime.adoption.records import Records
from workers.runtime.catalogue import (
    Artefact,
    BackendEntry,
    Capability,
    DiskFolder,
    DiskSource,
    HubFolder,
    HubSource,
    ModelEntry,
    Profile,
    SourceArtefact,
    SourceFile,
    SourceFolder,
)
from workers.runtime.checkpoint.selection import SETTINGS, select
from workers.runtime.progress import Report, silent
from workers.runtime.store import Store
from workers.runtime.store.sources import hub
from workers.runtime.store.sources.delivery import SourceFailed
from workers.runtime.store.sources.folders import Listing, repository

_FORMATS: Final = ("safetensors", "onnx")
"""Formats of folders, the preferred first."""


class Adopter:
    """Looks at models that no catalogue knows, and remembers what it found in the store.

    Args:
        store: Where they are remembered, and their files kept.
        formats: What the backend can do with published files.
    """

    def __init__(self, store: Store, formats: Formats) -> None:
        self._store = store
        self._formats = formats
        self.records = Records(store.home, formats.backend)
        """The models adopted so far."""

    def known(self, name: HubName | DiskName) -> ModelEntry | None:
        """The entry as it was remembered; ``None`` if the model was never looked at, or lies on this machine.

        What lies on this machine is looked at anew each time: that costs little, and it may have changed.
        """
        return self.records.find(name.name) if isinstance(name, HubName) else None

    def adopt(self, name: HubName | DiskName, report: Report = silent) -> ModelEntry:
        """Look at a model and remember it: by a repository's settings, or a whole GGUF file.

        Args:
            name: The model.
            report: Told the progress where a file has to be downloaded for it.

        Raises:
            UnsupportedModel: It can't be served; says why.
            SourceUnavailable: The hub can't be reached or refuses, or there is no such path.
        """
        match name:
            case HubName():
                entry = self._of_hub(name, report)
            case DiskName():
                entry = self._of_disk(name)
        self.records.keep(entry)
        return entry

    def _of_disk(self, name: DiskName) -> ModelEntry:
        path = name.path
        if path.is_file():
            facts = self._formats.look_at_file(path)
            file = name.name.removeprefix("local:") + ".gguf"
            artefact: Artefact = SourceArtefact(file, "gguf", (DiskSource(path),))
        elif path.is_dir():
            files = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
            kind, facts = self._folder(path, files, str(path))
            artefact = SourceFolder(kind, (DiskFolder(path),))
        else:
            raise SourceUnavailable(f"there is no model at {path}: neither a GGUF file nor a folder")
        own = self.records.free_name(name.name, str(path))
        return self._entry(own, (str(path),), "unknown", artefact, facts)

    def _of_hub(self, name: HubName, report: Report) -> ModelEntry:
        listing = _asked(name)
        file = name.file or _only_gguf(name, listing)
        if file is not None:
            artefact, facts = self._gguf(name, file, listing, report)
        else:
            artefact, facts = self._repository(name, listing)
        return self._entry(name.name, (), listing.licence or "unknown", artefact, facts)

    def _gguf(self, name: HubName, file: str, listing: Listing, report: Report) -> tuple[Artefact, Facts]:
        found = next((each for each in listing.files if each.path == file), None)
        if found is None or found.sha256 is None:
            there = ", ".join(each.path for each in listing.files if each.path.endswith(".gguf"))
            raise UnsupportedModel(f"{name.repository} has no file {file}; its GGUF files: {there or 'none'}")
        source = HubSource(name.repository, file, listing.revision)
        artefact = SourceArtefact(file.rpartition("/")[2], "gguf", (source,), found.size, found.sha256)
        return artefact, self._formats.look_at_file(self._store.fetch(artefact, report))

    def _repository(self, name: HubName, listing: Listing) -> tuple[Artefact, Facts]:
        paths = [file.path for file in listing.files]
        source = HubFolder(name.repository, listing.revision)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / name.repository.rpartition("/")[2]
            folder.mkdir()
            _fetch_settings(source, listing.files, folder, Path(place))
            kind, facts = self._folder(folder, paths, name.name)
        chosen = set(select(paths, kind, name.name))
        files = tuple(file for file in listing.files if file.path in chosen)
        return SourceFolder(kind, (source,), files), facts

    def _folder(self, folder: Path, files: Sequence[str], name: str) -> tuple[str, Facts]:
        """The first format in which the backend can serve it; else the first one's reason why not."""
        reasons = []
        for kind in _FORMATS:
            try:
                chosen = select(files, kind, name)
                return kind, self._formats.look_at_folder(folder, kind, chosen)
            except UnsupportedModel as error:
                reasons.append(error)
        raise reasons[0]

    def _entry(
        self, name: str, aliases: tuple[str, ...], licence: str, artefact: Artefact, facts: Facts
    ) -> ModelEntry:
        profiles = tuple(Profile(profile) for profile in facts.profiles)
        return ModelEntry(
            name=name,
            aliases=aliases,
            architecture=facts.architecture,
            licence=licence,
            capabilities=_capabilities(facts),
            context_length=facts.context_length,
            sampling=facts.sampling,
            backends=(BackendEntry(self._formats.backend, artefact, profiles, facts.profiles[0]),),
            origin=self.records.file(name),
        )


def _capabilities(facts: Facts) -> frozenset[Capability]:
    template = facts.chat_template
    found = {Capability.TEXT}
    if template is not None:
        found.add(Capability.CHAT)
        if "tools" in template:
            found.add(Capability.TOOLS)
    if facts.images:
        found.add(Capability.IMAGES)
    return frozenset(found)


def _asked(name: HubName) -> Listing:
    try:
        return repository(HubFolder(name.repository, name.revision))
    except SourceFailed as failure:
        raise SourceUnavailable(
            f"{name.name} could not be looked at: {failure}\n"
            "Check the name, the network, and for a gated model the hub's token (`hf auth login`)."
        ) from failure


def _only_gguf(name: HubName, listing: Listing) -> str | None:
    """The GGUF file of a repository that holds nothing else."""
    paths = [file.path for file in listing.files]
    found = [path for path in paths if path.endswith(".gguf")]
    if not found or any(path.endswith((".safetensors", ".onnx")) for path in paths):
        return None
    if len(found) > 1:
        listed = "".join(f"\n  hf:{name.repository}/{path}" for path in found)
        raise UnsupportedModel(f"{name.name} holds several GGUF files; name one:{listed}")
    return found[0]


def _fetch_settings(source: HubFolder, files: Sequence[SourceFile], folder: Path, place: Path) -> None:
    """The small files that say what a model is."""
    for number, file in enumerate(file for file in files if file.path in SETTINGS):
        wanted = HubSource(source.repository, file.path, source.revision)
        kept = place / str(number)
        kept.mkdir()
        try:
            fetched = hub.fetch(wanted, SourceArtefact(file.path, "json", (wanted,), file.size), kept, silent)
        except SourceFailed as failure:
            raise SourceUnavailable(f"{wanted.location}: {failure}") from failure
        (folder / file.path).symlink_to(fetched.file)
