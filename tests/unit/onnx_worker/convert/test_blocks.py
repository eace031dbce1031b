"""8-bit blocks: within half a step of what they stand for."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workers.onnx_worker.convert import blocks

MATRICES = arrays(np.float32, (3, 64), elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))


@given(MATRICES)
def test_rounding_moves_nothing_by_more_than_half_a_step(matrix):
    found = blocks.quantise(matrix)
    steps = np.repeat(np.abs(matrix.reshape(3, 2, 32)).max(axis=2) / 127, 32, axis=1)
    assert np.all(np.abs(found.dequantise() - matrix) <= steps * 0.5001)


def test_a_block_of_zeros_stays_zero():
    assert not blocks.quantise(np.zeros((2, 32), np.float32)).dequantise().any()


def test_the_largest_element_is_kept():
    matrix = np.linspace(-3, 3, 32, dtype=np.float32)[None]
    assert np.allclose(blocks.quantise(matrix).dequantise()[0, [0, -1]], [-3, 3], rtol=1e-6)


def test_blocks_of_the_smallest_numbers_do_not_overflow():
    matrix = np.full((1, 32), np.finfo(np.float32).tiny, np.float32)
    assert np.allclose(blocks.quantise(matrix).dequantise(), matrix, rtol=1e-2, atol=0)
