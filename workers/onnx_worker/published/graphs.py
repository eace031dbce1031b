"""The prepared artefact of published graphs: which of its files is what.

Beside ``model.json`` and ``tokenizer.json`` such a folder holds the graphs under the names that they were
published by, since they name the files of their weights, and ``graphs.json``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel

GRAPHS_FILE: Final = "graphs.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graphs:
    """The parts of a model; each the path of a graph below the folder."""

    decoder: str
    embedding: str | None = None
    """``None`` if the decoder looks tokens up by itself."""
    vision: str | None = None
    """``None`` for a model that takes text only."""

    def save(self, folder: Path) -> None:
        """Writes ``graphs.json``."""
        (folder / GRAPHS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Graphs:
        """Reads ``graphs.json``.

        Raises:
            UnsupportedModel: It is missing or can't be read.
        """
        path = folder / GRAPHS_FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UnsupportedModel(f"{path} can't be read ({error}); prepare the model again") from error
