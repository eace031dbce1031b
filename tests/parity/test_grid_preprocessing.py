"""Our preprocessing of pictures in their own shape against the reference's."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.fixtures.preprocessing_cases import picture
from workers.runtime.vision import ImageOptions, PatchGrid, Size, VisionDescription
from workers.runtime.vision.grid import GRID, in_patches

transformers = pytest.importorskip("transformers")

MERGE = 2
SIZES = ((64, 64), (28, 28), (640, 427), (427, 641), (1000, 13), (13, 600), (5, 5), (333, 1), (1999, 1501))


def description(patch, least, most):
    square = patch * MERGE
    return VisionDescription(
        image_token="<|image_pad|>",  # noqa: S106  # no password
        image_token_id=1,
        tile_size=square,
        tile_rows=1,
        longest_edge=math.isqrt(most),
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        resample=3,
        fit=GRID,
        patch=patch,
        frames=2,
        least_pixels=least,
        most_pixels=most,
    )


@pytest.mark.parametrize("patch", [14, 16])
@pytest.mark.parametrize("size", [size for size in SIZES if max(size) <= 200 * min(size)], ids=str)
@pytest.mark.parametrize("edge", [None, 400])
def test_patches_are_equal_and_as_many_as_rows_say(patch, size, edge):
    image, of = picture(*size), description(patch, least=56 * 56, most=1280 * 28 * 28)
    ours, options = PatchGrid(of), ImageOptions(longest_edge=edge)
    most = of.most_pixels if edge is None else edge * edge * min(size) // max(size)
    processor = transformers.Qwen2VLImageProcessorPil(
        size={"shortest_edge": of.least_pixels, "longest_edge": most}, patch_size=patch, merge_size=MERGE
    )
    expected = processor(images=[image], return_tensors="np")
    tiles = ours.tiles(image, options)
    patches, squares = in_patches(tiles.pixels(0), of)
    assert expected["image_grid_thw"].tolist() == [[1, squares.height * MERGE, squares.width * MERGE]]
    np.testing.assert_allclose(patches, expected["pixel_values"], rtol=0, atol=1e-6)
    layout = ours.layout(Size(*size), options)
    assert layout.rows == (squares.width * squares.height,)
    assert layout.text == of.image_token * len(patches[:: MERGE * MERGE])
