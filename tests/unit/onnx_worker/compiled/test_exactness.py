"""Bit by bit: what a row comes to depends on its tokens, not on how, when or beside whom it is computed."""

import numpy as np
import pytest

from tests.unit.onnx_worker.compiled.models import (
    MODELS,
    chunk,
    compiled,
    decode,
    staged,
    step,
    take_in,
    text,
)
from workers.runtime.engine.plan import Copy, Release, Row, Swap

same = np.testing.assert_array_equal


@pytest.fixture(scope="module", params=MODELS)
def folder(request, artefacts):
    return artefacts[request.param]


@pytest.fixture(scope="module")
def backend(folder, code):
    return compiled(folder, code, threads=2)


@pytest.mark.parametrize("lengths", [(7, 8, 9, 10), (1, 49, 49), (30, 270, 300)])
def test_prompts_beside_each_other_are_as_alone(backend, lengths):
    chunks = [chunk(slot, text(length, slot)) for slot, length in enumerate(lengths)]
    rows = [(length, 33 + slot) for slot, length in enumerate(lengths)]
    together, behind = take_in(backend, *chunks), decode(backend, *rows)
    same(together, np.concatenate([take_in(backend, each) for each in chunks]))
    same(decode(backend, *rows), behind)


@pytest.mark.parametrize("rows", [3, 17])
def test_rows_beside_each_other_are_as_alone(backend, rows):
    lengths = [(61 * slot + 3) % 300 + 1 for slot in range(rows)]
    for slot, length in enumerate(lengths):
        take_in(backend, chunk(slot, text(length, slot)))
    together = decode(backend, *((length, 50 + slot) for slot, length in enumerate(lengths)))
    for slot, length in enumerate(lengths):
        take_in(backend, chunk(0, text(length, slot)))
        same(decode(backend, (length, 50 + slot))[0], together[slot])


def test_prompts_and_rows_in_one_step_are_as_alone(backend):
    take_in(backend, chunk(0, text(30)), chunk(1, text(41, 1)))
    chunks, rows = (chunk(2, text(9, 2)), chunk(3, text(70, 3))), (Row(0, 30, 5), Row(1, 41, 6))
    together = step(backend, chunks=chunks, rows=rows)
    same(together, np.concatenate([take_in(backend, *chunks), decode(backend, (30, 5), (41, 6))]))


@pytest.mark.parametrize("past", [0, 17, 252, 300])
@pytest.mark.parametrize("count", [2, 9])
def test_tokens_at_once_are_as_one_by_one(backend, past, count):
    if past:
        take_in(backend, chunk(0, text(past)))
    tokens = text(count + 1, 9)
    one_by_one = np.concatenate([decode(backend, (past + more, token)) for more, token in enumerate(tokens)])
    same(decode(backend, (past, *tokens[:count])), one_by_one[:count])
    same(decode(backend, (past + count, tokens[count])), one_by_one[count:])
    # A piece of a prompt, too.
    same(take_in(backend, chunk(0, tokens[:count], past)), one_by_one[count - 1 : count])
    same(decode(backend, (past + count, tokens[count])), one_by_one[count:])


def test_drafts_beside_drafts_are_as_alone(backend):
    lengths, drafts = (20, 255, 300), (0, 7, 3)
    for slot, length in enumerate(lengths):
        take_in(backend, chunk(slot, text(length, slot)))
    rows = [(length, 40, *text(count, 7)) for length, count in zip(lengths, drafts, strict=True)]
    together = decode(backend, *rows)
    alone = []
    for slot, length in enumerate(lengths):
        take_in(backend, chunk(0, text(length, slot)))
        alone.append(decode(backend, rows[slot]))
    same(together, np.concatenate(alone))


@pytest.mark.parametrize(("start", "length"), [(0, 1), (0, 49), (24, 8), (24, 40), (250, 8), (250, 49)])
def test_a_staged_piece_is_as_one_at_once(backend, start, length):
    tokens = text(start + length + 1)
    if start:
        take_in(backend, chunk(3, tokens[:start], last=False))
    piece = chunk(3, tokens[start:-1], start)
    behind = chunk(3, tokens[-1:], start + length)
    expected = take_in(backend, piece), take_in(backend, behind)
    take_in(backend, chunk(0, text(70)))
    row, meanwhile = Row(0, 70, 5), decode(backend, (70, 5))
    stages = backend.stages
    for first in range(1, stages + 1):
        counts = [first, stages - first] if first < stages else [stages]
        found = staged(backend, piece, counts, rows=(row,))
        same(found, np.concatenate([expected[0], meanwhile]))
        same(take_in(backend, behind), expected[1])
    same(staged(backend, piece, [1] * stages), expected[0])


def test_a_staged_piece_that_is_not_the_last_has_no_logits(backend):
    tokens = text(60)
    expected = take_in(backend, chunk(1, tokens))
    piece = chunk(1, tokens[:40], last=False)
    assert staged(backend, piece, [1] * backend.stages).shape == (0, expected.shape[1])
    same(take_in(backend, chunk(1, tokens[40:], 40)), take_in(backend, chunk(1, tokens[40:], 40)))
    assert take_in(backend, piece).shape == (0, expected.shape[1])


def test_a_piece_that_was_given_up_is_forgotten(backend):
    other = chunk(2, text(12, 5))
    expected = take_in(backend, other)
    piece = chunk(3, text(30))
    for give_up in (backend.trim, lambda: None):
        with pytest.raises(AssertionError):
            staged(backend, piece, [1])
        give_up()
        same(staged(backend, other, [1] * backend.stages), expected)


def test_one_thread_computes_what_more_do(folder, code, backend):
    for threads in (1, 3):
        other = compiled(folder, code, threads=threads)
        for each in (
            chunk(0, text(300)),
            chunk(1, text(5)),
            chunk(2, text(49, 2)),
            chunk(0, text(30, 3), 300),
        ):
            same(take_in(other, each), take_in(backend, each))
        rows = ((330, 7), (5, 8, 9, 10), (49, 11))
        same(decode(other, *rows), decode(backend, *rows))


def test_the_same_step_is_the_same_every_time(backend):
    take_in(backend, chunk(0, text(270)), chunk(1, text(280, 1)))
    rows, piece = ((270, 5), (280, 6, 7, 8)), chunk(2, text(60, 2))
    expected, behind = decode(backend, *rows), take_in(backend, piece)
    for _ in range(20):
        same(decode(backend, *rows), expected)
        same(take_in(backend, piece), behind)


def test_nothing_lasts_of_what_a_slot_held_before(backend):
    expected = take_in(backend, chunk(0, text(40)))
    take_in(backend, chunk(0, text(400, 1)))
    same(take_in(backend, chunk(0, text(40))), expected)
    backend.trim()
    same(take_in(backend, chunk(0, text(40))), expected)


def test_slots_are_copied_swapped_and_released(backend):
    take_in(backend, chunk(0, text(260)), chunk(1, text(270, 1)))
    expected = decode(backend, (260, 5), (270, 6))
    changes = (Copy(0, 3, 0, 260), Release(0, 0), Swap(0, 1), Swap(1, 3))
    same(step(backend, changes=changes, rows=(Row(0, 270, 6), Row(1, 260, 5))), expected[::-1])


def test_a_step_of_changes_only_has_no_logits(backend):
    assert step(backend, changes=(Release(3, 0),)).shape == (0, take_in(backend, chunk(0, (9,))).shape[1])
