"""What was measured of an artefact on this machine, kept beside the artefacts for the next time."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


class Measurements:
    """One small file an artefact, replaced as a whole. What can't be read or written is done without.

    Args:
        folder: Where they lie; need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, digest: str, conditions: str) -> int | None:
        """The figure that was kept for an artefact.

        Args:
            digest: The artefact's.
            conditions: What the figure depends on beside the artefact, in any spelling.
        """
        value = self._read(digest).get(conditions)
        return value if isinstance(value, int) else None

    def keep(self, digest: str, conditions: str, figure: int) -> None:
        """Keeps a figure in the place of an older one."""
        values = self._read(digest) | {conditions: figure}
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder, prefix=f".{digest}.")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    json.dump(values, file, indent=2, sort_keys=True)
                Path(name).replace(self._file(digest))
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise

    def _read(self, digest: str) -> dict[str, Any]:
        try:
            values = json.loads(self._file(digest).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    def _file(self, digest: str) -> Path:
        return self._folder / f"sha256-{digest}.json"
