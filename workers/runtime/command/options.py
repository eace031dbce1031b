"""Options that several commands of a worker have, and the models that they lead to."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from workers.runtime.catalogue import Catalogue, ModelEntry, overlay_paths
from workers.runtime.command.kind import WorkerKind
from workers.runtime.command.terms_prompt import agreed
from workers.runtime.progress import Report
from workers.runtime.store import PreparedArtefact, Store, default_home

Home = Annotated[
    Path | None, typer.Option(envvar="DIPLEX_HOME", help="The model store.", show_default="the user's cache")
]
Overlays = Annotated[
    str, typer.Option("--catalogue", envvar="DIPLEX_MODELS", help="Further catalogue files, as in PATH.")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence",
        envvar="DIPLEX_ACCEPT_LICENCE",
        metavar="NAME",
        help="Agree to a model's terms, as gemma, without being asked; may be repeated.",
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME[/PROFILE]", help="A model of the catalogue.")]


def open_store(home: Path | None, accepted: Collection[str] | None) -> Store:
    """The store that the options name."""
    return Store(home or default_home(os.environ), accepted or ())


@dataclass(frozen=True, slots=True)
class Models:
    """Catalogue and store, as the options name them."""

    kind: WorkerKind
    catalogue: Catalogue
    store: Store

    @classmethod
    def open(
        cls, kind: WorkerKind, home: Path | None, overlays: str, accepted: Collection[str] | None
    ) -> Models:
        """Reads the catalogue.

        Raises:
            InvalidCatalogue: A file of it can't be read.
        """
        return cls(kind, Catalogue.load(overlay_paths(overlays)), open_store(home, accepted))

    def prepare(self, entry: ModelEntry, profile: str | None, report: Report) -> PreparedArtefact:
        """Downloads and converts as far as needed; see :meth:`workers.runtime.store.Store.ensure`."""
        return self.store.ensure(entry, self.kind.backend, profile, self.kind.converter, report)

    def ask(self, entry: ModelEntry, console: Console) -> None:
        """Asks whoever is at the terminal to agree to what must be agreed to before a download."""
        terms = self.store.open_terms(entry, self.kind.backend)
        if terms is not None and agreed(console, terms, entry.name):
            self.store.agree(terms)
