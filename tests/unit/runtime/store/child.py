"""A process that makes an artefact and stops for good, or for a while, at a named moment.

Arguments: the store's folder, the source as JSON, the moment, the file that counts conversions, and the
converter's version. It writes a line when the moment has come and waits for one.

Moments: ``never``, ``prepare`` (between the converter's two files), ``download`` and ``verify`` (after the
first bytes), ``rename N`` (before the N-th rename), ``renamed N`` (after it).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.unit.runtime.store.arrangement import Converter, FolderConverter, entry_of, folder_entry
from workers.runtime.catalogue import (
    DiskFolder,
    DiskSource,
    FolderSource,
    HubFolder,
    HubSource,
    IndexSource,
    ModelEntry,
    Source,
)
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store

MOMENTS = {Phase.DOWNLOAD: "download", Phase.VERIFY: "verify"}


def source_of(text: str) -> Source | FolderSource:
    kind, values = json.loads(text)
    if kind in {"DiskSource", "DiskFolder"}:
        return {"DiskSource": DiskSource, "DiskFolder": DiskFolder}[kind](Path(values["path"]))
    if kind == "HubFolder":
        return HubFolder(**values)
    return {"HubSource": HubSource, "IndexSource": IndexSource}[kind](**values)


def made_of(source: Source | FolderSource) -> tuple[ModelEntry, type[Converter]]:
    """The entry and the converter for a source."""
    if isinstance(source, HubFolder | DiskFolder):
        return folder_entry(source), FolderConverter
    return entry_of(source), Converter


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Stop:
    """Waits at its moment, once."""

    def __init__(self, moment: str) -> None:
        self.moment = moment
        self.renames = 0

    def at(self, moment: str) -> None:
        if moment == self.moment:
            self.moment = "past"
            say(moment)
            sys.stdin.readline()

    def report(self, progress: Progress) -> None:
        if "waiting" in progress.detail:
            say(progress.detail)
        elif progress.done:
            self.at(MOMENTS.get(progress.phase, ""))

    def watch_renames(self) -> None:
        rename = Path.rename

        def watched(path: Path, target: Path) -> Path:
            self.renames += 1
            number = self.renames
            self.at(f"rename {number}")
            result = rename(path, target)
            self.at(f"renamed {number}")
            return result

        Path.rename = watched  # type: ignore[method-assign, assignment]


def main() -> None:
    home, source, moment, calls, version = sys.argv[1:]
    stop = Stop(moment)
    stop.watch_renames()
    entry, kind = made_of(source_of(source))
    converter = kind(version, Path(calls), lambda: stop.at("prepare"))
    artefact = Store(Path(home)).ensure(entry, "onnx", None, converter, stop.report)
    say(artefact.digest)


if __name__ == "__main__":
    main()
