"""Pictures in their own shape, without the reference: how many rows they come to, and what is refused."""

from __future__ import annotations

import pytest

from diplex.errors import InvalidRequest
from workers.runtime.vision import ImageOptions, PatchGrid, Size, VisionDescription
from workers.runtime.vision.grid import GRID

EYES = PatchGrid(
    VisionDescription(
        image_token="@",  # noqa: S106  # no password
        image_token_id=1,
        tile_size=28,
        tile_rows=1,
        longest_edge=1536,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        fit=GRID,
        patch=14,
        frames=2,
        least_pixels=56 * 56,
        most_pixels=1280 * 28 * 28,
    )
)


@pytest.mark.parametrize(
    ("size", "options", "rows"),
    [
        (Size(280, 140), ImageOptions(), 50),
        (Size(2800, 1400), ImageOptions(), 50 * 25),
        (Size(10, 10), ImageOptions(), 4),
        (Size(2800, 1400), ImageOptions(longest_edge=280), 50),
        (Size(100, 100), ImageOptions(longest_edge=1536), 16),
    ],
)
def test_rows_follow_from_the_size(size, options, rows):
    layout = EYES.layout(size, options)
    assert layout.rows == (rows,)
    assert layout.text == "@" * rows


@pytest.mark.parametrize(
    ("size", "options", "field"),
    [
        (Size(100, 100), ImageOptions(split=True), "image_options.split"),
        (Size(100, 100), ImageOptions(longest_edge=27), "image_options.longest_edge"),
        (Size(100, 100), ImageOptions(longest_edge=1537), "image_options.longest_edge"),
        (Size(2001, 10), ImageOptions(), "chat"),
    ],
)
def test_what_is_refused(size, options, field):
    with pytest.raises(InvalidRequest) as raised:
        EYES.layout(size, options)
    assert raised.value.violations[0].field == field
