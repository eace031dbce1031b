"""8-bit columns: small errors of products, not of single weights."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from workers.onnx_worker.convert import columns
from workers.onnx_worker.convert.columns import Rounding

MATRICES = arrays(np.float32, (5, 48), elements=st.floats(-1e4, 1e4, width=32, allow_subnormal=False))
RANDOM = np.random.default_rng(5)


def product_error(matrix, dequantised, inputs):
    return float(np.linalg.norm(inputs @ (matrix - dequantised).T))


def rounded_to_nearest(matrix):
    steps = np.abs(matrix).max(axis=1, keepdims=True) / 127
    return np.rint(matrix / steps) * steps


@given(MATRICES)
def test_every_matrix_fits_its_columns(matrix):
    found = Rounding(RANDOM.standard_normal((8, 48))).quantise(matrix)
    assert found.values.shape == (48, 5)
    assert np.abs(found.values.astype(int)).max(initial=0) <= 127
    assert np.all(np.isfinite(found.dequantise()))


def test_inputs_without_a_pattern_are_rounded_to_nearest():
    matrix = RANDOM.standard_normal((4, 16), dtype=np.float32)
    found = Rounding(np.eye(16)).quantise(matrix)
    assert np.allclose(found.dequantise(), rounded_to_nearest(matrix), atol=1e-6)


def test_products_with_inputs_that_go_together_are_nearer_than_by_rounding_to_nearest():
    matrix = RANDOM.standard_normal((64, 96), dtype=np.float32)
    inputs = RANDOM.standard_normal((400, 12)) @ RANDOM.standard_normal((12, 96))
    found = Rounding(inputs).quantise(matrix).dequantise()
    nearest = rounded_to_nearest(matrix)
    assert product_error(matrix, found, inputs) < 0.6 * product_error(matrix, nearest, inputs)


def test_panels_and_parts_make_no_difference(monkeypatch):
    matrix = RANDOM.standard_normal((40, 70), dtype=np.float32)
    inputs = RANDOM.standard_normal((90, 70))
    whole = Rounding(inputs).quantise(matrix)
    monkeypatch.setattr(columns, "_PANEL", 7)
    monkeypatch.setattr(columns, "_OUTPUTS", 16)
    assert np.array_equal(whole.values, Rounding(inputs).quantise(matrix).values)


def test_an_output_of_zeros_and_inputs_of_zeros():
    matrix = np.zeros((2, 8), np.float32)
    matrix[1] = 1
    found = Rounding(np.zeros((3, 8))).quantise(matrix).dequantise()
    assert np.allclose(found, matrix, atol=1e-6)
