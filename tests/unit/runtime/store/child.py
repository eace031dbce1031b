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

from tests.unit.runtime.store.arrangement import Converter, entry_of
from workers.runtime.catalogue import DiskSource, HubSource, IndexSource, Source
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store

MOMENTS = {Phase.DOWNLOAD: "download", Phase.VERIFY: "verify"}


def source_of(text: str) -> Source:
    kind, values = json.loads(text)
    if kind == "DiskSource":
        return DiskSource(Path(values["path"]))
    return {"HubSource": HubSource, "IndexSource": IndexSource}[kind](**values)


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
    converter = Converter(version, Path(calls), lambda: stop.at("prepare"))
    artefact = Store(Path(home)).ensure(entry_of(source_of(source)), "onnx", None, converter, stop.report)
    say(artefact.digest)


if __name__ == "__main__":
    main()
