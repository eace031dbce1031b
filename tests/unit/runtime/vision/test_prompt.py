"""Where pictures stand in token ids."""

from __future__ import annotations

from workers.runtime.vision import Picture
from workers.runtime.vision.prompt import placed, without_names

IMAGE = 9
PICTURES = (Picture(0, range(-2, -4, -1), (2,), None), Picture(1, range(-4, -5, -1), (1,), None))


def test_image_tokens_name_rows():
    ids = placed((5, IMAGE, IMAGE, 6, IMAGE, 7), IMAGE, PICTURES)
    assert ids == (5, -2, -3, 6, -4, 7)
    assert without_names(ids, IMAGE) == (5, IMAGE, IMAGE, 6, IMAGE, 7)


def test_those_that_only_say_that_a_picture_begins_name_none():
    ids = (5, IMAGE, IMAGE, IMAGE, 6, IMAGE, IMAGE)
    assert placed(ids, IMAGE, PICTURES, marks=1) == (5, IMAGE, -2, -3, 6, IMAGE, -4)
