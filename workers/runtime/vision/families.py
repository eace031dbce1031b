"""Which models' eyes are known: what their files say, and what prepares pictures for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from diplex.errors import UnsupportedModel
from workers.runtime.vision.description import VisionDescription, read_processor, read_settings
from workers.runtime.vision.grid import GRID, PatchGrid
from workers.runtime.vision.idefics3 import Idefics3
from workers.runtime.vision.preprocessing import Preprocessor
from workers.runtime.vision.single_tile import CROP, SQUASH, SingleTile

_INTERNVL_TOKEN: Final = "<IMG_CONTEXT>"  # noqa: S105  # no password
_GEMMA_BEGIN: Final = "<start_of_image>"
_ONE_MORE: Final = "full"
"""LLaVA's name for keeping the features of the class token too."""

_SQUARES: Final = 1280
"""Of a grid by default, as the makers of Qwen-VL recommend; their processors' bounds are many times that,
for which a CPU has no time."""
_MOST_EDGE: Final = 1536
"""Pixels of a square grid's side, however many a processor would take: attention grows with their square's
square."""


def describe_eyes(folder: Path, model_type: str) -> VisionDescription | None:
    """The eyes of a checkpoint; ``None`` if its family's aren't known.

    Raises:
        UnsupportedModel: A file is missing or says what isn't supported.
    """
    reader = _READERS.get(model_type)
    if reader is None:
        return None
    try:
        return reader(folder)
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedModel(
            f"{folder.name} doesn't describe the eyes of a {model_type}: {error!r}"
        ) from error


def preprocessor_of(description: VisionDescription) -> Preprocessor:
    """What makes pictures into the pixels that such eyes take."""
    if description.fit is None:
        return Idefics3(description)
    return PatchGrid(description) if description.fit == GRID else SingleTile(description)


def _llava(folder: Path) -> VisionDescription:
    config, processor = read_settings(folder, "config.json"), read_processor(folder, "image_mean")
    vision, crop = config["vision_config"], processor.get("crop_size")
    if processor.get("do_pad") or not processor.get("do_center_crop", True) or crop is None:
        raise UnsupportedModel(f"{folder.name} prepares pictures otherwise than by scaling and cutting them")
    side, edge = crop["height"], processor["size"]["shortest_edge"]
    if crop["width"] != side or edge < side:
        raise UnsupportedModel(f"{folder.name} sees no square out of the middle of a picture")
    patches = (side // vision["patch_size"]) ** 2
    extra = 1 if config.get("vision_feature_select_strategy", "default") == _ONE_MORE else 0
    return VisionDescription(
        image_token_id=config.get("image_token_index", config.get("image_token_id")),
        tile_size=side,
        tile_rows=patches + extra,
        longest_edge=edge,
        fit=CROP,
        **_levels(processor),
    )


def _blip2(folder: Path) -> VisionDescription:
    config, processor = read_settings(folder, "config.json"), read_processor(folder, "image_mean")
    size = processor["size"]
    if size["height"] != size["width"]:
        raise UnsupportedModel(f"{folder.name} sees no square")
    image_token = config.get("image_token_index", config.get("image_token_id"))
    if image_token is None:
        raise UnsupportedModel(f"{folder.name} names no image token (image_token_index in config.json)")
    return VisionDescription(
        image_token_id=image_token,
        tile_size=size["height"],
        tile_rows=config["num_query_tokens"],
        longest_edge=size["height"],
        fit=SQUASH,
        **_levels(processor),
    )


def _internvl(folder: Path) -> VisionDescription:
    config, processor = read_settings(folder, "config.json"), read_processor(folder, "image_mean")
    side = processor["size"]["height"]
    patch = config["vision_config"]["patch_size"]
    patches = (side // (patch if isinstance(patch, int) else patch[0])) ** 2
    return VisionDescription(
        image_token=_INTERNVL_TOKEN,
        image_token_id=config["image_token_id"],
        tile_size=side,
        tile_rows=int(patches * config["downsample_ratio"] ** 2),
        longest_edge=side,
        before="<img>",
        behind="</img>",
        fit=SQUASH,
        **_levels(processor),
    )


def _kosmos2(folder: Path) -> VisionDescription:
    config = read_settings(folder, "config.json")
    of_clip = _llava(folder)
    added = read_settings(folder, "tokenizer.json")["added_tokens"]
    [image_token_id] = [token["id"] for token in added if token["content"] == of_clip.image_token]
    return replace(
        of_clip,
        image_token_id=image_token_id,
        tile_rows=config["latent_query_num"],
        before=of_clip.image_token,
        behind="</image>",
    )


def _gemma3(folder: Path) -> VisionDescription:
    config, processor = read_settings(folder, "config.json"), read_processor(folder, "image_mean")
    size = processor["size"]
    if size["height"] != size["width"]:
        raise UnsupportedModel(f"{folder.name} sees no square")
    return VisionDescription(
        image_token="<image_soft_token>",  # noqa: S106  # no password
        image_token_id=config.get("image_token_index", config.get("image_token_id")),
        place=_GEMMA_BEGIN,
        tile_size=size["height"],
        tile_rows=config["mm_tokens_per_image"],
        longest_edge=size["height"],
        before=f"\n\n{_GEMMA_BEGIN}",
        behind="<end_of_image>\n\n",
        fit=SQUASH,
        mutual=True,
        **_levels(processor),
    )


def _qwen_vl(folder: Path) -> VisionDescription:
    config, processor = read_settings(folder, "config.json"), read_processor(folder, "image_mean")
    vision, size = config["vision_config"], processor.get("size") or {}
    patch, merge = processor["patch_size"], processor["merge_size"]
    square = patch * merge
    most = processor.get("max_pixels") or size["longest_edge"]
    return VisionDescription(
        image_token="<|image_pad|>",  # noqa: S106  # no password
        image_token_id=config["image_token_id"],
        tile_size=square,
        tile_rows=1,
        longest_edge=min(math.isqrt(most), _MOST_EDGE),
        fit=GRID,
        patch=patch,
        frames=processor["temporal_patch_size"],
        least_pixels=processor.get("min_pixels") or size["shortest_edge"],
        most_pixels=min(most, _SQUARES * square * square),
        patch_width=vision.get("intermediate_size") or int(vision["embed_dim"] * vision["mlp_ratio"]),
        layers=1 + len(vision.get("deepstack_visual_indexes", ())),
        **_levels(processor),
    )


def _levels(processor: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "mean": tuple(processor["image_mean"]),
        "std": tuple(processor["image_std"]),
        "rescale_factor": processor.get("rescale_factor", 1 / 255),
        "resample": processor.get("resample", 3),
    }


_READERS: Final[Mapping[str, Callable[[Path], VisionDescription]]] = {
    "idefics3": VisionDescription.of_checkpoint,
    "smolvlm": VisionDescription.of_checkpoint,
    "gemma3": _gemma3,
    "internvl": _internvl,
    "qwen2_vl": _qwen_vl,
    "qwen2_5_vl": _qwen_vl,
    "qwen3_vl": _qwen_vl,
    "kosmos-2": _kosmos2,
    "llava": _llava,
    "blip-2": _blip2,
}
