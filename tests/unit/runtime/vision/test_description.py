"""The eyes of a checkpoint, as its files tell of them."""

from __future__ import annotations

import json

import pytest

from diplex.errors import UnsupportedModel
from workers.runtime.vision import VisionDescription

CONFIG = {
    "model_type": "idefics3",
    "image_token_id": 49190,
    "scale_factor": 4,
    "vision_config": {"image_size": 512, "patch_size": 16},
}
IMAGES = {
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
    "size": {"longest_edge": 2048},
    "max_image_size": {"longest_edge": 512},
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.25, 0.5],
    "rescale_factor": 0.00392156862745098,
    "resample": 1,
}


def checkpoint(folder, config=CONFIG, **files):
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config": IMAGES},
        {"processor_config": {"image_processor": IMAGES, "image_seq_len": 64}},
        {"processor_config": {"image_seq_len": 64}, "preprocessor_config": IMAGES},
    ],
)
def test_older_and_newer_checkpoints(tmp_path, files):
    eyes = VisionDescription.of_checkpoint(checkpoint(tmp_path, **files))
    assert (eyes.tile_size, eyes.tile_rows, eyes.longest_edge, eyes.image_token_id) == (512, 64, 2048, 49190)
    assert (eyes.mean, eyes.std, eyes.resample) == ((0.5, 0.5, 0.5), (0.5, 0.25, 0.5), 1)


@pytest.mark.parametrize(
    ("config", "files", "told"),
    [
        (CONFIG, {}, "processor_config.json"),
        (CONFIG, {"preprocessor_config": {"size": 3}}, "processor_config.json"),
        (CONFIG, {"preprocessor_config": IMAGES | {"do_normalize": False}}, "do_normalize"),
        (CONFIG, {"preprocessor_config": {"max_image_size": {"longest_edge": 512}}}, "size"),
        ({"model_type": "llama"}, {"preprocessor_config": IMAGES}, "vision_config"),
    ],
)
def test_what_is_missing_is_said(tmp_path, config, files, told):
    with pytest.raises(UnsupportedModel, match=told):
        VisionDescription.of_checkpoint(checkpoint(tmp_path, config, **files))
