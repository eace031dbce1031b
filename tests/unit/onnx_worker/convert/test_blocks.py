"""8-bit blocks: exact where the source is Q8_0, within half a step elsewhere."""

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
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


def test_q8_0_is_taken_over_exactly():
    matrix = np.random.default_rng(0).standard_normal((5, 96)).astype(np.float32)
    packed = quantize(matrix, gguf.GGMLQuantizationType.Q8_0)
    found = blocks.from_q8_0(packed)
    assert np.array_equal(found.dequantise(), dequantize(packed, gguf.GGMLQuantizationType.Q8_0))


def test_q8_0_keeps_the_lowest_value():
    packed = np.zeros((1, 34), np.uint8)
    packed[0, :2] = np.frombuffer(np.float16(0.5).tobytes(), np.uint8)
    packed[0, 2:] = 0x80
    assert np.all(blocks.from_q8_0(packed).dequantise() == -64)


def test_stacked_parts_keep_their_rows():
    first, second = (blocks.quantise(np.full((rows, 32), rows, np.float32)) for rows in (2, 3))
    stacked = blocks.stack([first, second]).dequantise()
    assert np.allclose(stacked[:2], 2)
    assert np.allclose(stacked[2:], 3)


def test_blocks_of_the_smallest_numbers_do_not_overflow():
    matrix = np.full((1, 32), np.finfo(np.float32).tiny, np.float32)
    assert np.allclose(blocks.quantise(matrix).dequantise(), matrix, rtol=1e-2, atol=0)
