"""What an engine has to know about a model's eyes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from diplex.errors import UnsupportedModel

_PROCESSOR_FILES: Final = ("processor_config.json", "preprocessor_config.json")
_STEPS: Final = ("do_resize", "do_rescale", "do_normalize")


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionDescription:
    """A model's eyes. Families other than Idefics3 leave at their defaults what they don't have."""

    image_token: str = "<image>"  # noqa: S105  # no password
    """Text of the token that stands for a row of features."""
    place: str = ""
    """What the chat template puts for a picture, if that isn't ``image_token``."""
    image_token_id: int
    """Its id."""
    tile_size: int
    """Side of the square that the eyes see at once, in pixels; of the squares that a grid has."""
    tile_rows: int
    """Rows of features, hence places in the prompt, that a tile comes to."""
    longest_edge: int
    """Pixels to which a picture is scaled before it is split, at most; or to which one of ``fit`` is; or to
    which the longer side of a grid may be scaled."""
    mean: tuple[float, float, float]
    """Taken from the red, green and blue of a pixel, after they are rescaled."""
    std: tuple[float, float, float]
    """What they are then divided by."""
    rescale_factor: float = 1 / 255
    """What makes 8-bit values into those that ``mean`` and ``std`` are for."""
    resample: int = 1
    """Pillow's number of the filter that pictures are scaled with; 1 is Lanczos."""
    fake_token: str = "<fake_token_around_image>"  # noqa: S105  # no password
    """Stands around pictures and their tiles."""
    global_token: str = "<global-img>"  # noqa: S105  # no password
    """Stands before the whole picture."""
    before: str = ""
    """Stands before a picture of ``fit``."""
    behind: str = ""
    """Stands behind it."""
    fit: str | None = None
    """How a picture is made one tile, of :mod:`workers.runtime.vision.single_tile` or
    :mod:`workers.runtime.vision.grid`; ``None`` for Idefics3's way."""
    mutual: bool = False
    """Whether the rows of a tile attend to each other in both directions, for which one run must have them
    all."""

    patch: int = 0
    """Side of a patch of a grid, in pixels."""
    frames: int = 1
    """How often each patch is given, as that many pictures of a film."""
    least_pixels: int = 0
    """Of a grid; what has fewer is scaled up."""
    most_pixels: int = 0
    """Of a grid, unless a request says how long the longer side is to be."""
    patch_width: int = 0
    """Elements of the widest layer that the eyes compute for each patch of a grid."""
    layers: int = 1
    """Rows that a row of features has, where the decoder adds further ones behind its first layers."""

    @property
    def marks(self) -> int:
        """Image tokens that stand before a picture's rows, and for none of them."""
        return self.before.count(self.image_token)

    @property
    def mark(self) -> str:
        """What stands for a picture in a rendered template."""
        return self.place or self.image_token

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VisionDescription:
        """Of what ``dataclasses.asdict`` and JSON made of one.

        Raises:
            KeyError, TypeError: It isn't one.
        """
        known = {field.name for field in fields(cls)}
        if unknown := values.keys() - known:
            raise KeyError(min(unknown))
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    @classmethod
    def of_checkpoint(cls, folder: Path) -> VisionDescription:
        """The eyes of an Idefics3 checkpoint, from its ``config.json`` and the processor's file.

        Raises:
            UnsupportedModel: A file is missing or says what isn't supported.
        """
        config = read_settings(folder, "config.json")
        processor = read_processor(folder, "max_image_size")
        try:
            vision = config["vision_config"]
            patches = vision["image_size"] // vision["patch_size"]
            return cls(
                image_token_id=config["image_token_id"],
                tile_size=processor["max_image_size"]["longest_edge"],
                tile_rows=(patches // config["scale_factor"]) ** 2,
                longest_edge=processor["size"]["longest_edge"],
                mean=tuple(processor["image_mean"]),
                std=tuple(processor["image_std"]),
                rescale_factor=processor.get("rescale_factor", 1 / 255),
                resample=processor.get("resample", 1),
            )
        except (KeyError, TypeError) as error:
            text = f"{folder.name} doesn't describe the eyes of an Idefics3: {error!r}"
            raise UnsupportedModel(text) from error


def read_processor(folder: Path, key: str) -> Mapping[str, Any]:
    """What a checkpoint says about images; newer ones have it inside the processor's file.

    Args:
        folder: The checkpoint.
        key: What must be said.

    Raises:
        UnsupportedModel: It isn't, or pictures aren't scaled and normalised.
    """
    for name in _PROCESSOR_FILES:
        if (folder / name).exists():
            found = read_settings(folder, name)
            images = dict(found.get("image_processor", found))
            if key in images:
                _require_steps(images)
                return images
    raise UnsupportedModel(f"{folder.name} has no {' or '.join(_PROCESSOR_FILES)} that tells of images")


def read_settings(folder: Path, name: str) -> Mapping[str, Any]:
    """A JSON file of a checkpoint.

    Raises:
        UnsupportedModel: It can't be read.
    """
    try:
        values: Mapping[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnsupportedModel(f"{folder / name} can't be read: {error}") from error
    return values


def _require_steps(processor: Mapping[str, Any]) -> None:
    for step in _STEPS:
        if not processor.get(step, True):
            raise UnsupportedModel(f"images are processed without {step}, which isn't supported")
