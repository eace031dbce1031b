"""Which pictures are known, whose features are kept, and what is forgotten when."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from diplex.errors import QueueFull, ResourceExhausted
from workers.runtime.vision import Gallery, ImageOptions, Layout
from workers.runtime.vision.gallery import picture_key

TWO = Layout("", (3, 1))


class Blank:
    """Tiles without anything on them."""

    def __init__(self, nbytes=1):
        self.nbytes = nbytes


def encoded(gallery, picture):
    while not picture.complete:
        gallery.advance(picture.number)
    return picture


def test_ids_are_negative_distinct_and_in_the_order_of_the_tiles():
    gallery = Gallery(100, 1)
    first, second = (gallery.pin(key, TWO, Blank) for key in (b"a", b"b"))
    assert (list(first.ids), list(second.ids)) == ([-2, -3, -4, -5], [-6, -7, -8, -9])
    assert list(first.next_ids) == [-2, -3, -4]
    gallery.advance(first.number)
    assert list(first.next_ids) == [-5]
    gallery.advance(first.number)
    assert first.complete
    assert first.tiles is None


def test_the_same_picture_is_made_once():
    gallery = Gallery(100, 1)
    first = encoded(gallery, gallery.pin(b"a", TWO, Blank))
    assert gallery.pin(b"a", TWO, lambda: pytest.fail("it is known")) is first
    assert first.pins == 2


def test_two_threads_with_the_same_picture_get_one():
    gallery, meeting = Gallery(100, 1), threading.Barrier(2, timeout=10)

    def tiles():
        meeting.wait()
        return Blank()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: gallery.pin(b"a", TWO, tiles), range(2))
    assert first is second
    assert first.pins == 2


def test_what_nobody_needs_goes_when_room_is_needed_the_longest_unused_first():
    gallery = Gallery(12, 1)
    pictures = {key: encoded(gallery, gallery.pin(key, TWO, Blank)) for key in (b"a", b"b", b"c")}
    gallery.unpin(list(pictures.values()))
    gallery.unpin([gallery.pin(b"a", TWO, Blank)])  # used again
    gallery.pin(b"d", TWO, Blank)
    assert gallery.take_forgotten() == [pictures[b"b"].ids]
    assert gallery.take_forgotten() == []
    assert gallery.kept == 12


def test_a_forgotten_picture_comes_back_under_new_ids():
    gallery = Gallery(4, 1)
    before = encoded(gallery, gallery.pin(b"a", TWO, Blank))
    gallery.unpin([before])
    gallery.clear()
    after = gallery.pin(b"a", TWO, Blank)
    assert not set(before.ids) & set(after.ids)
    assert not after.complete


def test_what_is_needed_stays():
    gallery = Gallery(8, 1)
    for key in (b"a", b"b"):
        encoded(gallery, gallery.pin(key, TWO, Blank))
    gallery.clear()
    assert gallery.take_forgotten() == []
    with pytest.raises(QueueFull):
        gallery.pin(b"c", TWO, Blank)


def test_a_picture_beyond_the_budget_is_refused_for_good():
    with pytest.raises(ResourceExhausted) as raised:
        Gallery(3, 1).pin(b"a", TWO, Blank)
    assert not isinstance(raised.value, QueueFull)
    assert "--image-cache-mib" in raised.value.message


def test_not_too_many_tiles_wait():
    gallery = Gallery(100, 1, most_waiting=10)
    first = gallery.pin(b"a", TWO, lambda: Blank(20))  # one alone is let in anyway
    with pytest.raises(QueueFull):
        gallery.pin(b"b", TWO, lambda: Blank(1))
    encoded(gallery, first)
    gallery.pin(b"b", TWO, lambda: Blank(1))


def test_half_a_picture_that_nobody_needs_is_forgotten_at_once():
    gallery = Gallery(100, 1)
    picture = gallery.pin(b"a", TWO, Blank)
    gallery.advance(picture.number)
    gallery.unpin([picture])
    assert gallery.take_forgotten() == [picture.ids]
    assert (gallery.kept, picture.tiles) == (0, None)


def test_pictures_are_known_by_content_and_options():
    keys = {
        picture_key(data, options)
        for data in (b"a", b"b")
        for options in (ImageOptions(), ImageOptions(split=True), ImageOptions(longest_edge=512))
    }
    assert len(keys) == 6


class AnyOrder(RuleBasedStateMachine):
    """A gallery, and who has pinned what."""

    def __init__(self):
        super().__init__()
        self.gallery = Gallery(12, 1)
        self.pinned = []
        self.there = {}  # ids -> rows of them that were encoded, as eyes keep them

    @rule(
        key=st.sampled_from([b"a", b"b", b"c", b"d"]),
        rows=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    )
    def pin(self, key, rows):
        try:
            self.pinned.append(self.gallery.pin(key + bytes(rows), Layout("", tuple(rows)), Blank))
        except QueueFull:
            assert sum(len(picture.ids) for picture in set(self.pinned)) + sum(rows) > 12

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def unpin(self, data):
        self.gallery.unpin([self.pinned.pop(data.draw(st.integers(0, len(self.pinned) - 1)))])

    @precondition(lambda self: any(not picture.complete for picture in self.pinned))
    @rule()
    def encode(self):
        self.let_go()
        picture = next(picture for picture in self.pinned if not picture.complete)
        self.there.setdefault(picture.ids, set()).update(picture.next_ids)
        self.gallery.advance(picture.number)

    @rule()
    def clear(self):
        self.gallery.clear()

    @rule()
    def let_go(self):
        for ids in self.gallery.take_forgotten():
            self.there.pop(ids, None)

    @invariant()
    def what_is_needed_is_there(self):
        assert self.gallery.kept <= 12
        for picture in self.pinned:
            assert len(self.there.get(picture.ids, ())) == sum(picture.rows[: picture.encoded])

    def teardown(self):
        self.gallery.unpin(self.pinned)
        self.gallery.clear()
        self.let_go()
        assert not self.there
        assert self.gallery.kept == 0


AnyOrder.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestAnyOrder = AnyOrder.TestCase
