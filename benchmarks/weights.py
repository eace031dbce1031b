"""The weights that everything in the suite runs: the file that Diplex's store keeps.

    python -m benchmarks.weights

prints its path, downloading it first if need be.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import TOKENIZER_FILE
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store, default_home

MODEL = "SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where the files of a model lie."""

    gguf: Path
    """What every peer is made from."""
    tokenizer: Path
    """``tokenizer.json``, of the prepared artefact."""
    folder: Path
    """The prepared artefact that Diplex serves."""


def find(model: str = MODEL) -> Weights:
    """Downloads and converts as far as needed.

    Args:
        model: Name in the catalogue, optionally with a profile behind a slash.

    Raises:
        DiplexError: It can't be had.
    """
    match = Catalogue.load().find(model)
    store = Store(default_home(os.environ))
    artefact = store.ensure(match.entry, "onnx", match.profile, ToOnnx())
    return Weights(store.source(match.entry, "onnx"), artefact.folder / TOKENIZER_FILE, artefact.folder)


if __name__ == "__main__":
    print(find().gguf)
