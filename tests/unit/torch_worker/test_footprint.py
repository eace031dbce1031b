"""What an engine is predicted to take, told without torch."""

from __future__ import annotations

from tests.fake_backend import fake_description
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.vision import VisionDescription
from workers.runtime.vision.grid import GRID
from workers.torch_worker.footprint import predict


def test_the_largest_picture_in_its_own_shape_counts(tmp_path):
    vision = VisionDescription(
        image_token_id=9,
        tile_size=28,
        tile_rows=1,
        longest_edge=1400,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        fit=GRID,
        patch=14,
        patch_width=5120,
    )
    blind, seeing = (
        predict(tmp_path, fake_description(vision=each), EngineConfig(tmp_path)) for each in (None, vision)
    )
    assert seeing.loaded == blind.loaded
    assert seeing.working == 4 * 5 * 100**2 * 5120 > blind.working
