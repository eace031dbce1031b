"""The models that commands name: of the catalogue, of a hub repository, or on this machine."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from diplex.errors import SourceUnavailable
from workers.runtime.adoption import Adopter, DiskName, HubName, parse
from workers.runtime.catalogue import Match, ModelEntry, overlay_paths
from workers.runtime.catalogue.watch import CatalogueFiles
from workers.runtime.command.kind import WorkerKind
from workers.runtime.command.terms_prompt import agreed
from workers.runtime.progress import Report, silent
from workers.runtime.store import PreparedArtefact, Store, default_home


@dataclass(frozen=True, slots=True)
class Models:
    """Catalogue and store, as the options name them."""

    kind: WorkerKind
    files: CatalogueFiles
    """The catalogue's files, with those of adopted models."""
    store: Store
    adopter: Adopter

    @classmethod
    def open(
        cls, kind: WorkerKind, home: Path | None, overlays: str, accepted: Collection[str] | None
    ) -> Models:
        """Takes options as commands have them: the store's folder, further catalogue files, terms."""
        store = Store(home or default_home(os.environ), accepted or ())
        adopter = Adopter(store, kind.formats)
        files = CatalogueFiles(overlay_paths(overlays), adopted=adopter.records.folder)
        return cls(kind, files, store, adopter)

    def find(self, name: str) -> Match:
        """What a name stands for; a repository is asked of its hub only if it was never looked at.

        Raises:
            ModelNotFound: Nothing.
            UnsupportedModel: It is a repository or a path that can't be served.
            SourceUnavailable: The hub can't be reached, or there is no such path.
        """
        foreign = parse(name)
        if foreign is None:
            return self.files.load().find(name)
        return self._match(self.adopter.known(foreign) or self.adopter.adopt(foreign), foreign)

    def look_up(self, name: str, console: Console, report: Report = silent) -> Match:
        """Like :meth:`find`, but a repository's newest commit, unless its hub can't be reached."""
        foreign = parse(name)
        if foreign is None:
            return self.find(name)
        try:
            return self._match(self.adopter.adopt(foreign, report), foreign)
        except SourceUnavailable as error:
            known = self.adopter.known(foreign)
            if known is None:
                raise
            console.print(f"{error}\nWhat is there is used.", highlight=False, soft_wrap=True)
            return self._match(known, foreign)

    def prepare(self, entry: ModelEntry, profile: str | None, report: Report) -> PreparedArtefact:
        """The prepared artefact, downloaded and converted as far as needed."""
        return self.store.ensure(entry, self.kind.backend, profile, self.kind.converter, report)

    def ask(self, entry: ModelEntry, console: Console) -> None:
        """Asks whoever is at the terminal to agree to what must be agreed to before a download."""
        terms = self.store.open_terms(entry, self.kind.backend)
        if terms is not None and agreed(console, terms, entry.name):
            self.store.agree(terms)

    def _match(self, entry: ModelEntry, name: HubName | DiskName) -> Match:
        profile = name.profile
        return Match(
            entry, None if profile is None else entry.backend(self.kind.backend).profile(profile).name
        )


def named(match: Match) -> str:
    """The model's own name, with the profile that was asked for."""
    return match.entry.name if match.profile is None else f"{match.entry.name}/{match.profile}"
