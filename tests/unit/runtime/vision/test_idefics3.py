"""Preprocessing without the reference: what that gave once, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diplex.errors import InvalidRequest
from tests.fixtures.preprocessing_cases import FULL, SMALL, cases, digest, picture
from workers.runtime.vision import Idefics3, ImageOptions, Size

GOLDEN = json.loads((Path(__file__).parents[3] / "fixtures/preprocessing_digests.json").read_text())
ALL = list(cases())


@pytest.mark.parametrize(("label", "description", "size", "options"), ALL, ids=[case[0] for case in ALL])
def test_the_same_as_the_reference(label, description, size, options):
    ours, image = Idefics3(description), picture(*size)
    layout, tiles = ours.layout(Size(*size), options), ours.tiles(image, options)
    pixels = [tiles.pixels(index)[0] for index in range(len(layout.rows))]
    assert digest(layout.text, pixels) == GOLDEN[label]
    assert layout.text.count("<image>") == sum(layout.rows)


def test_a_picture_is_one_tile_unless_it_is_to_be_split():
    assert Idefics3(FULL).layout(Size(3000, 2000), ImageOptions()).rows == (64,)
    assert len(Idefics3(FULL).layout(Size(512, 512), ImageOptions(split=True)).rows) == 17
    assert len(Idefics3(FULL).layout(Size(512, 512), ImageOptions(split=True, longest_edge=1024)).rows) == 5


def test_tiles_that_wait_are_small():
    tiles = Idefics3(SMALL).tiles(picture(64, 64), ImageOptions(split=True))
    assert tiles.nbytes == 17 * 32 * 32 * 3


@pytest.mark.parametrize("edge", [1, 31, 129, 4096])
def test_an_edge_that_the_model_has_no_markers_for_is_refused(edge):
    with pytest.raises(InvalidRequest) as raised:
        Idefics3(SMALL).layout(Size(10, 10), ImageOptions(longest_edge=edge))
    assert raised.value.violations[0].field == "image_options.longest_edge"
    assert "[32, 128]" in raised.value.violations[0].description
