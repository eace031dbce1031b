"""Attention of one token over a segment of its sequence, of neighbours over all of it, and joining segments.

Each part of a softmax is kept with its largest score and the sum of its weights, so that parts can be joined
(Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, https://arxiv.org/abs/1805.02867).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.numbers import LOOSE, exponential, largest
from workers.onnx_worker.compiled.functions.products import weighted_sums
from workers.onnx_worker.compiled.functions.tiles import copy_floats, float_dots, turn_tile
from workers.onnx_worker.compiled.shapes import DOT_COLUMNS, DOT_ROWS, LANES, STRIP


@compiled(fastmath=LOOSE)
def attend(
    query: Any, group: Any, width: Any, keys: Any, values: Any, count: Any, scores: Any, attended: Any,
    peaks: Any, sums: Any, ahead: Any,
) -> None:  # fmt: skip
    """Attention of the queries that share keys, over one segment.

    Args:
        query: Address of float32 ``[group, head_dim]``, already scaled.
        group: Queries.
        width: ``head_dim``.
        keys: Address of float32 ``[count, head_dim]``; up to three more tokens are read.
        values: Address of float32 ``[count, head_dim]``.
        count: Tokens.
        scores: float32 ``[4, at least count + 3]``, working memory.
        attended: float32 ``[group, head_dim]``, filled, not yet divided by the sum of the weights.
        peaks: float32 ``[group]``: the largest score.
        sums: float32 ``[group]``: the sum of the weights.
        ahead: Address of the keys that are attended to next.
    """
    first = 0
    while first < group:
        taken = min(group - first, DOT_ROWS)
        for token in range(0, count, DOT_COLUMNS):
            float_dots(
                taken,
                query + 4 * width * first,
                4 * width,
                keys + 4 * width * token,
                4 * width,
                width // LANES,
                scores.ctypes.data + 4 * token,
                scores.strides[0],
                values + 4 * width * token,
            )
        for each in range(taken):
            row = scores[each]
            peak = largest(row, count)
            total = np.float32(0.0)
            for token in range(count):
                weight = exponential(row[token] - peak)
                row[token] = weight
                total += weight
            peaks[first + each], sums[first + each] = peak, total
        weighted_sums(
            taken,
            scores.ctypes.data,
            scores.strides[0],
            values,
            width,
            width,
            count,
            attended.ctypes.data + first * attended.strides[0],
            attended.strides[0],
            ahead,
        )
        first += taken


@compiled(fastmath=LOOSE)
def join(attended: Any, peaks: Any, sums: Any, first: Any, last: Any) -> None:
    """Put parts ``first … last - 1`` of all heads together, in the place of the first.

    Args:
        attended: float32 ``[parts, heads, head_dim]``, as :func:`attend` leaves it.
        peaks: float32 ``[parts, heads]``.
        sums: float32 ``[parts, heads]``.
        first: The part to begin with.
        last: The part to end before.
    """
    _, heads, width = attended.shape
    for head in range(heads):
        peak = peaks[first, head]
        for part in range(first + 1, last):
            peak = max(peak, peaks[part, head])
        total = np.float32(0.0)
        for part in range(first, last):
            peaks[part, head] = exponential(peaks[part, head] - peak)
            total += peaks[part, head] * sums[part, head]
        goal = attended[first, head]
        for part in range(first, last):
            source, factor = attended[part, head], peaks[part, head] / total
            for column in range(width):
                goal[column] = source[column] * factor + (goal[column] if part > first else np.float32(0.0))


@compiled()
def attend_together(
    first: Any, tokens: Any, part: Any, position: Any, window: Any, head: Any, group: Any, keys: Any,
    values: Any, scratch: Any, thread: Any,
) -> None:  # fmt: skip
    """Attention of the queries that share a key head, of tokens that follow each other, over all each sees.

    Args:
        first: Row of the first token; the others follow.
        tokens: How many.
        part: Of the first token's attention; the others follow.
        position: Of the first.
        window: Tokens that one sees, itself among them; 0 for all.
        head: The key head.
        group: Queries that share it.
        keys: Address of its keys, float32 ``[position + tokens, head_dim]``; up to 15 more are read.
        values: Address of its values, float32 ``[position + tokens, head_dim]``.
        scratch: ``Scratch``; filled are ``attended``, ``peaks`` and ``sums``.
        thread: The thread's number.
    """
    width, count, end = scratch.attended.shape[2], tokens * group, position + tokens
    queries, turned, weights = scratch.queries[thread], scratch.turned[thread], scratch.weights[thread]
    seen = scratch.parts_attended[thread]
    part_peaks, part_sums = scratch.parts_weighed[thread, 0], scratch.parts_weighed[thread, 1]
    for query in range(count):
        row, which = first + query // group, group * head + query % group
        copy_floats(scratch.qkv[row, width * which :].ctypes.data, queries[query].ctypes.data, width // LANES)
        scratch.attended[part + query // group, which, :] = np.float32(0.0)
        scratch.peaks[part + query // group, which] = np.float32(-np.inf)
        scratch.sums[part + query // group, which] = np.float32(0.0)
    start = max(position + 1 - window, 0) // STRIP * STRIP if window else 0
    while start < end:
        taken = min(STRIP, end - start)
        _turn(keys + 4 * width * start, taken, width, turned)
        padded = (taken + LANES - 1) // LANES * LANES
        weighted_sums(
            count,
            queries.ctypes.data,
            queries.strides[0],
            turned.ctypes.data,
            turned.shape[1],
            padded,
            width,
            weights.ctypes.data,
            weights.strides[0],
            values + 4 * width * start,
        )
        for query in range(count):
            at = position + query // group
            since = max(at + 1 - window - start, 0) if window else 0
            part_peaks[query], part_sums[query] = _weigh(
                weights[query], since, min(at + 1 - start, taken), taken
            )
        weighted_sums(
            count,
            weights.ctypes.data,
            weights.strides[0],
            values + 4 * width * start,
            width,
            width,
            taken,
            seen.ctypes.data,
            seen.strides[0],
            keys + 4 * width * (start + STRIP),
        )
        for query in range(count):
            row, which = part + query // group, group * head + query % group
            if part_sums[query] > np.float32(0.0):
                scratch.peaks[row, which], scratch.sums[row, which] = _merge(
                    scratch.attended[row, which],
                    scratch.peaks[row, which],
                    scratch.sums[row, which],
                    seen[query],
                    part_peaks[query],
                    part_sums[query],
                )
        start += STRIP


@compiled()
def _turn(keys: Any, tokens: Any, width: Any, turned: Any) -> None:
    """Keys at an address, ``[tokens, width]``, as columns; up to 15 more tokens are read."""
    for token in range(0, tokens, LANES):
        for column in range(0, width, LANES):
            turn_tile(
                keys + 4 * (width * token + column),
                4 * width,
                turned[column, token:].ctypes.data,
                turned.strides[0],
            )


@compiled(fastmath=LOOSE)
def _weigh(scores: Any, first: Any, last: Any, tokens: Any) -> Any:
    """Scores ``first … last - 1`` as weights and zeros for the rest of ``tokens``.

    Returns:
        The largest score and the sum of the weights; 0 if there are none.
    """
    # Indices begin with 0: compilers make no vectors of those that may be negative.
    seen = max(last - first, 0)
    row, behind = scores[first:], scores[first + seen :]
    for token in range(min(first, tokens)):
        scores[token] = np.float32(0.0)
    peak, total = np.float32(0.0), np.float32(0.0)
    if seen:
        peak = largest(row, seen)
        for token in range(seen):
            weight = exponential(row[token] - peak)
            row[token] = weight
            total += weight
    for token in range(tokens - first - seen):
        behind[token] = np.float32(0.0)
    return peak, total


@compiled(fastmath=LOOSE)
def _merge(attended: Any, peak: Any, total: Any, part: Any, part_peak: Any, part_total: Any) -> Any:
    """Add a segment's part to what has been attended to; returns the new peak and sum."""
    highest = max(peak, part_peak)
    kept, added = exponential(peak - highest), exponential(part_peak - highest)
    for column in range(len(attended)):
        attended[column] = attended[column] * kept + part[column] * added
    return highest, total * kept + part_total * added
