"""From the eyes of a checkpoint to their part of a prepared artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.eyes.graph import EyesGraph
from workers.onnx_worker.convert.eyes.precision import EyesFloat32, EyesInt8, EyesPrecision
from workers.onnx_worker.convert.eyes.rotation import RotatedTower
from workers.onnx_worker.convert.eyes.shape import EyesShape
from workers.onnx_worker.convert.eyes.tower import CheckpointTower, tensor_shapes
from workers.onnx_worker.convert.weights import WeightFile
from workers.runtime.artefact import EYES_FILE, EYES_WEIGHTS_FILE
from workers.runtime.checkpoint import SEEING, CheckpointFolder
from workers.runtime.vision import VisionDescription

_LISTED: Final = 4
"""Names of unknown tensors that a message holds at most."""
_LANGUAGE: Final = ("model.text_model.", "lm_head.")


@dataclass(frozen=True, slots=True)
class SourceEyes:
    """The eyes of a checkpoint, checked and ready to be converted."""

    shape: EyesShape
    tower: CheckpointTower
    description: VisionDescription
    """How pictures become what they take."""

    @classmethod
    def of(cls, folder: CheckpointFolder, features: int) -> SourceEyes | None:
        """The eyes of a checkpoint; ``None`` if it is of a kind that has none.

        Args:
            folder: The whole checkpoint.
            features: Width of its language model.

        Raises:
            UnsupportedModel: It has eyes that can't be converted; the message says why.
        """
        if folder.model_type not in SEEING:
            return None
        shape = EyesShape.of(folder.config, features)
        _check_tensors(folder, shape)
        description = VisionDescription.of_checkpoint(folder.path)
        if (description.tile_size, description.tile_rows) != (shape.tile, shape.rows):
            raise UnsupportedModel(
                f"the processor of {folder.path.name} makes tiles of {description.tile_size} pixels, "
                f"its eyes take {shape.tile}"
            )
        return cls(shape, CheckpointTower(folder.tensors, shape), description)


def convert_eyes(eyes: SourceEyes, target: Path, *, precision: str, turn: npt.NDArray[Any] | None) -> None:
    """Write the graph and its weights.

    Args:
        eyes: The eyes.
        target: The folder of the artefact.
        precision: Of the language model: with four bits there, the eyes have eight.
        turn: How the language model's residual stream is turned, ``[features, features]``; ``None`` if it
            is as published.
    """
    with WeightFile(target / EYES_WEIGHTS_FILE) as weights:
        graph = EyesGraph(eyes.shape, _precision(eyes, precision, turn), weights).build()
    (target / EYES_FILE).write_bytes(graph.SerializeToString(deterministic=True))


def _precision(eyes: SourceEyes, name: str, turn: npt.NDArray[Any] | None) -> EyesPrecision:
    if name in {"fp32", "fp16"}:  # eyes have no float16 of their own
        return EyesFloat32(eyes.tower)
    turn = np.eye(eyes.shape.features) if turn is None else turn
    return EyesInt8(RotatedTower(eyes.tower, eyes.shape, turn))


def _check_tensors(folder: CheckpointFolder, shape: EyesShape) -> None:
    expected = tensor_shapes(shape)
    present = {name for name in folder.tensors.names if not name.startswith(_LANGUAGE)}
    if unknown := sorted(present - expected.keys()):
        listed = ", ".join(unknown[:_LISTED]) + (", …" if len(unknown) > _LISTED else "")
        raise UnsupportedModel(f"{folder.path.name} has tensors that can't be converted: {listed}")
    for name, wanted in expected.items():
        found = folder.tensors.shape(name)
        if found != wanted:
            raise UnsupportedModel(f"tensor {name} has shape {found}, {folder.config.name} says {wanted}")
