from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_backend import fake_description
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.supervisor.footprint import MEBIBYTE, Footprint, Needs, footprint

TOKEN = 1000
MODEL = fake_description(context_length=1000, kv_bytes_per_token=TOKEN)
ROWS = 4
SEQUENCE = 1000 * TOKEN
ALL = ROWS * SEQUENCE
AHEAD = ROWS * 64 * TOKEN
NEEDS = Needs(loaded=10 * MEBIBYTE, working=MEBIBYTE)


def config(tmp_path=None, **options):
    return EngineConfig(tmp_path, slots=2, **options)


def granted(share=None, **options):
    return footprint(NEEDS, MODEL, config(**options), share).keys_values


@pytest.mark.parametrize(
    ("share", "options", "keys_values"),
    [
        (None, {}, ALL),
        (100 * MEBIBYTE, {}, ALL),
        (0, {}, SEQUENCE),
        (11 * MEBIBYTE + 2 * SEQUENCE + AHEAD, {}, 2 * SEQUENCE),
        (0, {"kv_mib": 2}, 2 * MEBIBYTE),
        (None, {"kv_mib": 100}, ALL),
        (0, {"max_length": 100}, 100 * TOKEN),
        (None, {"max_length": 5000}, ALL),
        (None, {"prefix_cache_mib": 0}, ALL // 2),
    ],
)
def test_what_keys_and_values_get(share, options, keys_values):
    assert granted(share, **options) == keys_values


@given(st.integers(0, 200 * MEBIBYTE), st.integers(1, 64), st.integers(16, 2000))
def test_a_share_is_kept_to_unless_one_sequence_takes_more(share, slots, length):
    found = footprint(NEEDS, MODEL, EngineConfig(None, slots=slots, max_length=length), share)
    least = NEEDS.loaded + NEEDS.working + min(length, 1000) * TOKEN + 2 * slots * 64 * TOKEN
    assert found.most <= max(share, least)
    assert found.most == found.loaded + found.keys_values + found.working
    assert found.keys_values >= min(length, 1000) * TOKEN


def test_an_engine_is_held_to_it():
    found = Footprint(loaded=5, keys_values=3 * MEBIBYTE + 1, working=7)
    assert found.configured(config()).kv_mib == 4
    assert found.measured(6) == Footprint(6, 3 * MEBIBYTE + 1, 7)
