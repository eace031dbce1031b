"""Where the store lies, and the names of everything in it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path


def default_home(environ: Mapping[str, str]) -> Path:
    """The store's folder: ``DIPLEX_HOME``, else ``diplex`` in the user's cache folder.

    Args:
        environ: The environment, usually ``os.environ``.
    """
    if environ.get("DIPLEX_HOME"):
        return Path(environ["DIPLEX_HOME"]).expanduser().absolute()
    if environ.get("XDG_CACHE_HOME"):
        return Path(environ["XDG_CACHE_HOME"]).absolute() / "diplex"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "diplex"
    if sys.platform == "win32" and environ.get("LOCALAPPDATA"):
        return Path(environ["LOCALAPPDATA"]) / "diplex"
    return Path.home() / ".cache" / "diplex"


class Home:
    """Names the folders of a store.

    ::

        blobs/sha256-<digest>/          a source artefact and its manifest.json
        blobs/folder-<key>/             the same of a folder whose digest is known only once it is there
        partial/<as in blobs>/          what is kept of an unfinished download, to go on from
        prepared/<model>/<backend>-<profile>/   the converted files and their manifest.json
        adopted/<backend>/<model>.json  what was found out about a model that no catalogue knows
        agreements/<terms>.json         when, and to which words of them, somebody agreed to a model's terms
        locks/                          one empty file for each of these, locked while it is made

    Args:
        root: The store's folder; need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def blob(self, sha256: str) -> Path:
        """The folder of a source artefact."""
        return self.root / "blobs" / f"sha256-{sha256}"

    def folder(self, key: str) -> Path:
        """The folder of a source artefact that is a folder, and whose digest isn't known before."""
        return self.root / "blobs" / f"folder-{key}"

    def partial(self, blob: Path) -> Path:
        """The folder of an unfinished download of what will lie in ``blob``."""
        return self.root / "partial" / blob.name

    def prepared(self, model: str, backend: str, profile: str) -> Path:
        """The folder of a prepared artefact; a model's name may hold colons and slashes."""
        return self.root / "prepared" / re.sub("[:/]+", "--", model) / f"{backend}-{profile}"

    def agreement(self, terms: str) -> Path:
        """The file that says when some terms have been agreed to."""
        return self.root / "agreements" / f"{terms.lower()}.json"

    def lock(self, folder: Path) -> Path:
        """The lock file that guards one of the folders above."""
        return self.root / "locks" / ("-".join(folder.relative_to(self.root).parts) + ".lock")
