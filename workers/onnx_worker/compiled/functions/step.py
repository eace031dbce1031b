"""One step: what its threads do, piece by piece.

A step is a row of phases, ten a layer. The pieces of a phase are claimed one by one by whichever thread comes
next, and a thread goes on to the next phase when all pieces are finished, not when all threads are there: one
that the operating system has stopped holds up nobody unless it has a piece in hand.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from workers.onnx_worker.compiled.functions import rows as row_work
from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.attention import attend, attend_together, join
from workers.onnx_worker.compiled.functions.products import gate, multiply, weighted_sums
from workers.onnx_worker.compiled.functions.threads import add_atomically, load_atomically, pause, yield_core
from workers.onnx_worker.compiled.functions.tiles import copy_floats
from workers.onnx_worker.compiled.shapes import (
    COUNTER_BYTES,
    LANES,
    MATRICES,
    PHASES_A_LAYER,
    SEGMENT,
    TOGETHER,
    WIDTH,
)

(
    EMBED, NORM, QKV, PLACE, ATTEND, SPREAD, OUTPUT, FORWARD_NORM, GATE_UP, PEAK, DOWN, HEAD_NORM, HEAD,
) = range(13)  # fmt: skip
_PATIENCE: Final = 2000
"""Rounds that a thread waits before it offers its core to others: some 30 microseconds."""


@compiled()
def run(
    first: Any, last: Any, sizes: Any, constants: Any, weights: Any, rows: Any, scratch: Any, counters: Any,
    thread: Any, threads: Any,
) -> None:  # fmt: skip
    """A thread's part of some phases of a step.

    Args:
        first: The phase to begin with.
        last: The phase to end before.
        sizes: The model's ``Sizes``.
        constants: Its ``Constants``.
        weights: Its ``Weights``.
        rows: The step's ``Rows``.
        scratch: ``Scratch`` for as many rows, parts and threads.
        counters: uint8 ``[2 * phases * 64]``, zeros: pieces claimed and pieces finished, an int64 each.
        thread: This thread's number, from 0.
        threads: All of them.
    """
    total, place = PHASES_A_LAYER * sizes.layers + 3, counters.ctypes.data
    for phase in range(first, last):
        layer = min((phase - 1) // PHASES_A_LAYER, sizes.layers - 1) if phase else 0
        kind = phase - layer * PHASES_A_LAYER if phase else EMBED
        pieces = _pieces(kind, sizes, len(rows.tokens), len(rows.pieces), len(rows.wanted))
        claimed, finished = place + COUNTER_BYTES * phase, place + COUNTER_BYTES * (total + phase)
        piece = add_atomically(claimed, 1)
        while piece < pieces:
            _work(kind, layer, piece, sizes, constants, weights, rows, scratch, thread, threads)
            add_atomically(finished, 1)
            piece = add_atomically(claimed, 1)
        waited = 0
        while load_atomically(finished) < pieces:
            waited += 1
            pause()
            if waited % _PATIENCE == 0:
                yield_core()


@compiled()
def _pieces(kind: Any, sizes: Any, rows: Any, attended: Any, wanted: Any) -> Any:
    """Pieces of a phase."""
    if kind == QKV:
        return (sizes.heads + 2 * sizes.kv_heads) * sizes.head_dim // WIDTH
    if kind == ATTEND:
        return attended * sizes.kv_heads
    if kind in (OUTPUT, DOWN):
        return sizes.hidden // WIDTH
    if kind == GATE_UP:
        return sizes.feed_forward // sizes.mixed
    if kind == HEAD:
        return sizes.vocabulary // WIDTH if wanted else 0
    return wanted if kind == HEAD_NORM else rows


@compiled()
def _work(
    kind: Any, layer: Any, piece: Any, sizes: Any, constants: Any, weights: Any, rows: Any, scratch: Any,
    thread: Any, threads: Any,
) -> None:  # fmt: skip
    """One piece of a phase."""
    if kind in (QKV, OUTPUT, GATE_UP, DOWN, HEAD):
        _multiply(kind, layer, piece, sizes, weights, rows, scratch, thread, threads)
    elif kind == ATTEND:
        _attend(layer, piece, sizes, weights, rows, scratch, thread, threads)
    elif kind == PLACE:
        _place(layer, piece, sizes, constants, weights, rows, scratch)
    elif kind == SPREAD:
        first, last = rows.parts[piece], rows.parts[piece + 1]
        if last - first > 1:
            first += _first_seen(weights.windows[layer], rows.positions[piece]) // SEGMENT
        join(scratch.attended, scratch.peaks, scratch.sums, first, last)
        scratch.factors[piece] = row_work.round_by_spread(
            scratch.attended[first], constants.attended_step, scratch.rounded[piece]
        )
    elif kind == PEAK:
        scratch.factors[piece] = row_work.round_by_peak(
            scratch.gated[piece], constants.peak_step, scratch.rounded[piece]
        )
    elif kind == EMBED:
        _embed(piece, weights, rows, scratch)
    else:
        row = rows.wanted[piece] if kind == HEAD_NORM else piece
        norm = 2 * layer + (0 if kind == NORM else 1 if kind == FORWARD_NORM else 2)
        scratch.factors[piece] = constants.normalised_step
        row_work.normalise_and_round(
            scratch.residual[row],
            weights.norms[norm],
            constants.epsilon,
            constants.normalised_step,
            scratch.rounded[piece],
        )


@compiled()
def _embed(row: Any, weights: Any, rows: Any, scratch: Any) -> None:
    """A token's embedding; for a negative one, the row of features that it names, counted from -1 down."""
    token = rows.tokens[row]
    if token < 0:
        place, width = scratch.residual[row].ctypes.data, rows.features.shape[1]
        copy_floats(rows.features[-1 - token].ctypes.data, place, width // LANES)
    else:
        row_work.embed(weights.embedding[token], weights.embedding_scales[token], scratch.residual[row])


@compiled()
def _multiply(
    kind: Any,
    layer: Any,
    piece: Any,
    sizes: Any,
    weights: Any,
    rows: Any,
    scratch: Any,
    thread: Any,
    threads: Any,
) -> None:
    """32 outputs of all rows; of gate and up, as many as are mixed, and their mixing."""
    number = 0 if kind == QKV else 1 if kind == OUTPUT else 2 if kind == GATE_UP else 3
    matrix = MATRICES * sizes.layers if kind == HEAD else MATRICES * layer + number
    inputs, count = weights.inputs[matrix], len(rows.wanted) if kind == HEAD else len(rows.tokens)
    parts = sizes.mixed // (WIDTH // 2) if kind == GATE_UP else 1
    both, mixed = scratch.both[thread], scratch.parts[thread]
    for part in range(parts):
        output = WIDTH * (piece * parts + part)
        addend, addend_stride = weights.zeros.ctypes.data, np.int64(0)
        if kind == QKV:
            addend = weights.biases[layer, output:].ctypes.data
            result, stride = scratch.qkv[0, output:].ctypes.data, np.int64(scratch.qkv.strides[0])
        elif kind == HEAD:
            result, stride = rows.logits[0, output:].ctypes.data, np.int64(rows.logits.strides[0])
        elif kind == GATE_UP:
            result, stride = both.ctypes.data, np.int64(both.strides[0])
        else:
            result, stride = scratch.residual[0, output:].ctypes.data, np.int64(scratch.residual.strides[0])
            addend, addend_stride = result, stride
        block, first = weights.addresses[matrix] + output * inputs, weights.firsts[matrix] + output
        ahead = 1 if part + 1 < parts else 1 + (threads - 1) * parts
        multiply(
            count,
            scratch.rounded,
            inputs,
            block,
            weights.starts[first:].ctypes.data,
            weights.scales[first:].ctypes.data,
            scratch.factors,
            addend,
            addend_stride,
            result,
            stride,
            block + ahead * WIDTH * inputs,
        )
        if kind == GATE_UP:
            for row in range(count):
                gate(both[row], mixed[row, WIDTH // 2 * part : WIDTH // 2 * (part + 1)])
    if kind == GATE_UP:
        weighted_sums(
            count,
            mixed.ctypes.data,
            mixed.strides[0],
            weights.mixing.ctypes.data,
            sizes.mixed,
            sizes.mixed,
            sizes.mixed,
            scratch.gated.ctypes.data + 4 * sizes.mixed * piece,
            scratch.gated.strides[0],
            weights.mixing.ctypes.data,
        )


@compiled()
def _place(layer: Any, row: Any, sizes: Any, constants: Any, weights: Any, rows: Any, scratch: Any) -> None:
    """Turn a row's queries and keys by its position, and keep its keys and values."""
    width, position, slot = sizes.head_dim, rows.positions[row], rows.slots[row]
    table = weights.local[layer]
    cosines, sines = weights.cosines[table, position], weights.sines[table, position]
    for head in range(sizes.heads + sizes.kv_heads):
        part = scratch.qkv[row, width * head : width * head + width]
        key = head >= sizes.heads
        if constants.normed_heads:
            row_work.normalise(part, weights.head_norms[layer, 1 if key else 0], constants.epsilon)
        row_work.turn(part, cosines, sines, np.float32(1.0) if key else constants.attention_scale)
    for half in range(2):
        for head in range(sizes.kv_heads):
            column = width * (sizes.heads + sizes.kv_heads * half + head)
            place = _kept(
                weights.caches[layer, half], weights.length, slot * sizes.kv_heads + head, position, width
            )
            copy_floats(scratch.qkv[row, column:].ctypes.data, place, width // LANES)


@compiled()
def _attend(
    layer: Any, piece: Any, sizes: Any, weights: Any, rows: Any, scratch: Any, thread: Any, threads: Any
) -> None:
    """The queries that share a key head, of one row over a segment or of several over all."""
    kv_heads, width, length = sizes.kv_heads, sizes.head_dim, weights.length
    row, tokens, segment = rows.pieces[piece // kv_heads]
    head, position, window = piece % kv_heads, rows.positions[row], weights.windows[layer]
    keys, values = weights.caches[layer]
    strip, group = rows.slots[row] * kv_heads + head, sizes.heads // kv_heads
    if segment == TOGETHER:
        attend_together(
            row, tokens, rows.parts[row], position, window, head, group, _kept(keys, length, strip, 0, width),
            _kept(values, length, strip, 0, width), scratch, thread,
        )  # fmt: skip
        return
    first = max(_first_seen(window, position), SEGMENT * segment)
    last = min(position + 1, SEGMENT * (segment + 1))
    if first >= last:
        return
    following = min(piece + threads, len(rows.pieces) * kv_heads - 1)
    next_row, _, next_segment = rows.pieces[following // kv_heads]
    next_strip = rows.slots[next_row] * kv_heads + following % kv_heads
    heads, part = slice(group * head, group * head + group), rows.parts[row] + segment
    attend(
        scratch.qkv[row, width * heads.start :].ctypes.data, group, width,
        _kept(keys, length, strip, first, width), _kept(values, length, strip, first, width), last - first,
        scratch.scores[thread], scratch.attended[part, heads], scratch.peaks[part, heads],
        scratch.sums[part, heads], _kept(keys, length, next_strip, SEGMENT * max(next_segment, 0), width),
    )  # fmt: skip


@compiled()
def _kept(cache: Any, length: Any, strip: Any, token: Any, width: Any) -> Any:
    """Address of a token in a cache, float32 ``[strips, length, width]``."""
    return cache + 4 * width * (strip * length + token)


@compiled()
def _first_seen(window: Any, position: Any) -> Any:
    """The first token that one at a position sees."""
    return max(position + 1 - window, 0) if window else 0
