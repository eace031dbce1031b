"""Attention over segments, against a softmax in float64."""

import numpy as np
import pytest

pytest.importorskip("numba")

from workers.onnx_worker.compiled.decoder import scratch as working_memory
from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.attention import attend, attend_together, join
from workers.onnx_worker.compiled.shapes import SEGMENT, Sizes

pytestmark = pytest.mark.usefixtures("instructions")

LIMIT = 1e-5
"""Of values around 1, summed in float32."""


@compiled()
def attend_in_segments(queries, kept, seen, scores, parts):
    (keys, values), (first, count), (attended, peaks, sums) = kept, seen, parts
    for segment in range(first // SEGMENT, (count - 1) // SEGMENT + 1):
        start, end = max(first, SEGMENT * segment), min(count, SEGMENT * (segment + 1))
        attend(
            queries.ctypes.data, len(queries), queries.shape[1], keys[start:].ctypes.data,
            values[start:].ctypes.data, end - start, scores,
            attended[segment], peaks[segment], sums[segment], keys.ctypes.data,
        )  # fmt: skip
    join(attended, peaks, sums, first // SEGMENT, (count - 1) // SEGMENT + 1)


def softmax_attention(queries, keys, values):
    scores = queries.astype("f8") @ keys.T.astype("f8")
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True) @ values.astype("f8")


def sequence(tokens, width, spread=1.0):
    """Queries, and keys and values with tokens behind them that nobody may see: they would stand out."""
    random = np.random.default_rng(tokens)
    queries = random.standard_normal((64, width)).astype("f4") * np.float32(spread / np.sqrt(width))
    keys, values = random.standard_normal((2, tokens + 16, width)).astype("f4")
    values[tokens:] = np.nan
    keys[tokens:] *= 1000
    return queries, keys, values


@pytest.mark.parametrize("group", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("count", [1, 3, 256, 257, 700])
@pytest.mark.parametrize("width", [16, 80])
def test_joined_segments_are_attention_over_all(group, count, width):
    queries, keys, values = sequence(count, width)
    segments = -(-count // SEGMENT)
    attended = np.full((segments, group, width), np.nan, "f4")
    peaks, sums = np.full((2, segments, group), np.nan, "f4")
    scores = np.empty((4, SEGMENT + 4), "f4")
    attend_in_segments(queries[:group], (keys, values), (0, count), scores, (attended, peaks, sums))
    expected = softmax_attention(queries[:group], keys[:count], values[:count])
    np.testing.assert_allclose(attended[0], expected, rtol=0, atol=LIMIT)


@pytest.mark.parametrize("first", [5, 250, 256, 300, 511, 512, 690])
def test_segments_are_joined_from_the_first_that_is_seen(first):
    queries, keys, values = sequence(700, 64)
    attended = np.full((3, 2, 64), np.nan, "f4")
    peaks, sums = np.full((2, 3, 2), np.nan, "f4")
    scores = np.empty((4, SEGMENT + 4), "f4")
    attend_in_segments(queries[:2], (keys, values), (first, 700), scores, (attended, peaks, sums))
    expected = softmax_attention(queries[:2], keys[first:700], values[first:700])
    np.testing.assert_allclose(attended[first // SEGMENT], expected, rtol=0, atol=LIMIT)


def test_scores_far_apart_leave_one_token():
    queries, keys, values = sequence(600, 32, spread=300)
    attended = np.empty((3, 1, 32), "f4")
    peaks, sums = np.empty((2, 3, 1), "f4")
    scores = np.empty((4, SEGMENT + 4), "f4")
    attend_in_segments(queries[:1], (keys, values), (0, 600), scores, (attended, peaks, sums))
    # Scores of some thousands are rounded to 1e-4 and more, and weights with them.
    expected = softmax_attention(queries[:1], keys[:600], values[:600])
    np.testing.assert_allclose(attended[0], expected, rtol=0, atol=1e-3)


def scratch_for(rows, heads, kv_heads, width):
    sizes = Sizes(
        layers=1, hidden=32, feed_forward=32, heads=heads, kv_heads=kv_heads, head_dim=width, vocabulary=32,
        mixed=32,
    )  # fmt: skip
    scratch = working_memory(sizes, rows, rows, 2)
    for array in scratch:
        if array.dtype == np.float32:
            array.fill(np.nan)
    return scratch


@pytest.mark.parametrize(("group", "tokens"), [(1, 1), (1, 48), (2, 24), (3, 16), (3, 5), (9, 2), (60, 1)])
@pytest.mark.parametrize("position", [0, 240, 700])
@pytest.mark.parametrize("window", [0, 1, 100, 280, 5000])
def test_neighbours_together_are_attention_of_each(group, tokens, position, window):
    width, heads = 32, 2 * group
    _, keys, values = sequence(position + tokens, width)
    scratch = scratch_for(tokens + 2, heads, 2, width)
    random = np.random.default_rng(position)
    scratch.qkv[...] = random.standard_normal(scratch.qkv.shape) / np.sqrt(width)
    attend_together(
        1, tokens, 1, position, window, 1, group, keys.ctypes.data, values.ctypes.data, scratch, 1
    )
    for row in range(1, tokens + 1):
        end = position + row
        first = max(end - window, 0) if window else 0
        queries = scratch.qkv[row, : heads * width].reshape(heads, width)[group:]
        expected = softmax_attention(queries, keys[first:end], values[first:end])
        found = scratch.attended[row, group:] / scratch.sums[row, group:, None]
        np.testing.assert_allclose(found, expected, rtol=0, atol=LIMIT)
    # Other rows and other heads are others' business.
    assert np.isnan(scratch.attended[[0, -1]]).all()
    assert np.isnan(scratch.attended[:, :group]).all()
