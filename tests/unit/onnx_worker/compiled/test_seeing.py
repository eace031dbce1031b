"""Features of pictures in the place of embeddings; the eyes themselves are ONNX Runtime's here as there."""

import numpy as np
import pytest

from tests.fixtures.tiny_eyes import ROWS, TILE
from tests.unit.onnx_worker.compiled.models import (
    SEEING,
    by_onnx,
    chunk,
    compiled,
    decode,
    staged,
    take_in,
)

NEAR = 0.06
"""As in ``test_against_onnx``."""
PICTURE, OTHER = range(-ROWS, 0), range(-2 * ROWS, -ROWS)
SEEN = (1, 40, 41, *PICTURE, 60, 61, 62)
SEEN_TWICE = (1, 40, *OTHER, 41, *PICTURE, 60, *OTHER, 61)


def open_eyed(backend):
    for ids in (PICTURE, OTHER):
        pixels = np.random.default_rng(-ids[0]).uniform(-1, 1, (1, 3, TILE, TILE)).astype(np.float32)
        backend.eyes.encode(ids, pixels)
    return backend


@pytest.fixture(scope="module")
def backend(code, artefacts):
    return open_eyed(compiled(artefacts[SEEING], code, slots=4))


@pytest.mark.parametrize("tokens", [SEEN, SEEN_TWICE, (-1,), (5, -3, 6), SEEN[:-3]])
def test_what_is_seen_is_what_onnx_runtime_sees(backend, artefacts, tokens):
    def computed(opened):
        return np.concatenate([take_in(opened, chunk(0, tokens)), decode(opened, (len(tokens), 33))])

    expected = computed(open_eyed(by_onnx(artefacts[SEEING], slots=4)))
    difference = np.square(computed(backend) - expected).mean(axis=1) / np.square(expected).mean(axis=1)
    assert np.sqrt(difference.max()) < NEAR


def test_pictures_differ(backend):
    one, other = (take_in(backend, chunk(0, (5, *ids, 6))) for ids in (PICTURE, OTHER))
    assert np.abs(one - other).max() > 0.1 * np.abs(one).max()


def test_pictures_beside_text_in_one_run_are_as_alone(backend):
    prompts = (SEEN, (5,) * 22, SEEN_TWICE)
    chunks = [chunk(slot, tokens) for slot, tokens in enumerate(prompts)]
    rows = [(len(tokens), 33) for tokens in prompts]
    together, behind = take_in(backend, *chunks), decode(backend, *rows)
    np.testing.assert_array_equal(together, np.concatenate([take_in(backend, each) for each in chunks]))
    np.testing.assert_array_equal(decode(backend, *rows), behind)


def test_a_staged_picture_is_as_one_at_once(backend):
    piece = chunk(2, SEEN_TWICE)
    expected = take_in(backend, piece)
    np.testing.assert_array_equal(staged(backend, piece, [1] * backend.stages), expected)


def test_forgotten_features_are_gone(code, artefacts):
    backend = open_eyed(compiled(artefacts[SEEING], code, slots=4))
    expected = take_in(backend, chunk(0, (5, *OTHER, 6)))
    backend.trim()
    backend.eyes.forget(PICTURE)
    with pytest.raises(KeyError):
        take_in(backend, chunk(0, SEEN))
    np.testing.assert_array_equal(take_in(backend, chunk(0, (5, *OTHER, 6))), expected)
