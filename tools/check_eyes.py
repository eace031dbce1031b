"""How far the eyes of a prepared model are from their reference in float64, over held-out drawings.

    .venv/bin/python -m tools.check_eyes [NAME[/PROFILE]]

Prints the relative error of the features, root mean squares over all of a drawing's rows, and the smallest
cosine of a row.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import numpy as np

from tools.seeing.drawings import draw
from workers.onnx_worker.convert.rotation import random_rotation
from workers.onnx_worker.eyes import OnnxEyes
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import EYES_FILE, ModelDescription
from workers.runtime.catalogue import Catalogue
from workers.runtime.fidelity.eyes import EyesReference
from workers.runtime.store import Store, default_home
from workers.runtime.vision import ImageOptions

_DRAWINGS: Final = range(10_000, 10_030)


def main() -> None:
    """Measures."""
    match = Catalogue.load().find(sys.argv[1] if len(sys.argv) > 1 else "Seeing-2M-Drawings")
    store = Store(default_home(os.environ))
    folder = store.ensure(match.entry, "onnx", match.profile, ToOnnx()).folder
    errors, cosines = measured(folder, store.source(match.entry, "onnx"))
    print(
        f"relative error {np.mean(errors):.5f}, at most {max(errors):.5f}; cosine at least {min(cosines):.6f}"
    )


def measured(folder: Path, source: Path) -> tuple[list[float], list[float]]:
    """Of each drawing: relative error, smallest cosine.

    Args:
        folder: The prepared artefact.
        source: The checkpoint that it was made of.
    """
    description = ModelDescription.load(folder)
    eyes = OnnxEyes(folder / EYES_FILE, description, threads=0)
    reference = EyesReference(source, np.float64)
    # The int8 decoder's stream is turned, and so is what goes into it.
    width = description.hidden_size
    turn = np.eye(width) if description.precision == "fp32" else random_rotation(width)
    errors, cosines = [], []
    for number in _DRAWINGS:
        tiles = eyes.preprocessor.tiles(draw(number).image.convert("RGB"), ImageOptions())
        expected = reference.features(tiles.pixels(0)[0]) @ turn
        ids = range(-len(expected), 0)
        eyes.encode(ids, tiles.pixels(0))
        found = eyes.gather(list(ids))
        errors.append(float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean())))
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines.append(float(((found * expected).sum(axis=1) / lengths).min()))
    return errors, cosines


if __name__ == "__main__":
    main()
