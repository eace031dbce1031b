"""Slots that change places while others look at them, and memory that follows what they hold."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.fake_backend import fake_description
from workers.runtime import kv_cache
from workers.runtime.kv_cache import KVCache

LAYERS, HEADS, DIM = 3, 2, 16
SLOTS, LENGTH = 4, 1000
MEBIBYTE = 2**20


def cache(*, slots=SLOTS, length=LENGTH, layers=LAYERS, dim=DIM):
    description = fake_description(layers=layers, kv_heads=HEADS, head_dim=dim)
    return KVCache(description, slots=slots, max_length=length)


@pytest.fixture(params=["pages", "copies"])
def under_test(request, monkeypatch):
    """A cache that moves pages, and one on a system that can't."""
    if request.param == "copies":
        monkeypatch.setattr(kv_cache, "_LINUX", False)
    made = cache()
    if request.param == "pages" and not made._kernel.moves:
        pytest.skip("the kernel can't move pages")
    return made


def write(under_test, slot, tokens, start=0, seed=0):
    """Random keys and values; what was written, by array."""
    under_test.reserve(slot, start + tokens)
    written = {}
    for i, (name, rows) in enumerate(under_test.rows(slot, 1).items()):
        values = np.random.default_rng((seed, i)).random((HEADS, tokens, DIM), np.float32)
        rows[0, :, start : start + tokens] = values
        written[name] = values
    return written


def assert_holds(under_test, slot, written, start=0):
    for name, rows in under_test.rows(slot, 1).items():
        tokens = written[name].shape[1]
        assert np.array_equal(rows[0, :, start : start + tokens], written[name])


def test_length_is_whole_pages():
    made = cache()
    assert made.length >= LENGTH
    assert made.length * DIM * 4 % os.sysconf("SC_PAGE_SIZE") == 0
    assert {rows.shape for rows in made.rows(1, 2).values()} == {(2, HEADS, made.length, DIM)}
    assert {rows.ctypes.data % os.sysconf("SC_PAGE_SIZE") for rows in made.rows(3, 1).values()} == {0}


def test_slots_change_places(under_test):
    first = write(under_test, 0, 700, seed=1)
    third = write(under_test, 2, 30, seed=2)
    views = under_test.rows(0, SLOTS)
    addresses = {name: view.ctypes.data for name, view in views.items()}
    under_test.swap(0, 2)
    assert_holds(under_test, 2, first)
    assert_holds(under_test, 0, third)
    # Views from before see it, at the addresses from before.
    assert all(np.array_equal(view[2, :, :700], first[name]) for name, view in views.items())
    assert {name: view.ctypes.data for name, view in under_test.rows(0, SLOTS).items()} == addresses


def test_many_swaps_in_any_order(under_test):
    held = {slot: write(under_test, slot, 20 + 100 * slot, seed=slot) for slot in range(SLOTS)}
    for a, b in np.random.default_rng(5).integers(0, SLOTS, (60, 2)).tolist():
        if a != b:
            under_test.swap(a, b)
            held[a], held[b] = held[b], held[a]
        write_at = held[a]["0.key"].shape[1]
        if write_at < LENGTH - 4:  # they grow in between
            more = write(under_test, a, 3, start=write_at, seed=write_at)
            held[a] = {name: np.concatenate([held[a][name], more[name]], axis=1) for name in more}
    for slot, written in held.items():
        assert_holds(under_test, slot, written)


def test_a_copy_is_the_part_asked_for(under_test):
    written = write(under_test, 0, 600, seed=1)
    kept = write(under_test, 1, 50, seed=2)
    under_test.copy(0, 1, 50, 600)
    assert_holds(under_test, 1, kept)
    assert_holds(under_test, 1, {name: values[:, 50:] for name, values in written.items()}, start=50)
    assert_holds(under_test, 0, written)


def test_what_is_kept_stays_and_the_rest_can_be_written_again(under_test):
    written = write(under_test, 1, 600, seed=1)
    other = write(under_test, 0, 600, seed=2)
    under_test.release(1, 77)
    kept = {name: values[:, :77] for name, values in written.items()}
    assert_holds(under_test, 1, kept)
    more = write(under_test, 1, 523, start=77, seed=3)
    assert_holds(under_test, 1, more, start=77)
    assert_holds(under_test, 1, kept)
    assert_holds(under_test, 0, other)


def test_swaps_beside_a_thread_that_maps_memory(under_test):
    """Addresses of the cache never become free, so nobody else's mapping can land there."""
    held = {slot: write(under_test, slot, 300, seed=slot) for slot in range(SLOTS)}
    done = threading.Event()

    def map_and_unmap():
        while not done.is_set():
            np.ones(MEBIBYTE, np.float32)

    other = threading.Thread(target=map_and_unmap)
    other.start()
    try:
        for _ in range(100):
            under_test.swap(0, 3)
    finally:
        done.set()
        other.join()
    for slot, written in held.items():
        assert_holds(under_test, slot, written)


# --------------------------------------------------------------------------------------- memory


def resident():
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def test_memory_follows_what_is_held():
    made = cache(slots=8, length=4096, layers=16, dim=64)
    token_bytes = 2 * 16 * HEADS * 64 * 4
    ones = np.ones((HEADS, 4096, 64), np.float32)

    def hold(slot, tokens):
        made.reserve(slot, tokens)
        for rows in made.rows(slot, 1).values():
            rows[0, :, :tokens] = ones[:, :tokens]

    def grown():
        return (resident() - before) / token_bytes

    before = resident()
    hold(0, 1000)
    hold(1, 300)
    slack = 8 * 64 + MEBIBYTE / token_bytes
    assert grown() == pytest.approx(1300, abs=slack)
    for _ in range(5):
        made.swap(0, 1)
    assert grown() == pytest.approx(1300, abs=slack)
    made.release(1, 500)
    assert grown() == pytest.approx(800, abs=slack)
    for slot in range(2, 8):
        hold(slot, 1000)
    assert grown() == pytest.approx(6800, abs=slack)
    for slot in range(8):
        made.release(slot, 0)
    assert grown() == pytest.approx(0, abs=slack)


def test_pages_come_with_the_layers_that_need_them():
    made = cache(slots=2, length=4096, layers=16, dim=64)
    slot_bytes, slack = 2 * 16 * HEADS * 64 * 4 * 1024, MEBIBYTE
    before = resident()
    made.reserve(0, 1024, range(4))
    assert resident() - before == pytest.approx(slot_bytes / 4, abs=slack)
    made.swap(0, 1)
    made.release(1, 0)
    assert resident() - before == pytest.approx(0, abs=slack), "also of a run that went no further"
    for layers in (range(4), range(4, 10), range(10, 16)):
        made.reserve(1, 1024, layers)
    held = resident()
    assert held - before == pytest.approx(slot_bytes, abs=slack)
    made.reserve(1, 1024)
    assert resident() == held
