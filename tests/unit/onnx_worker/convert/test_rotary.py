"""Rotary tables and the order of rows."""

import numpy as np
import pytest

from workers.onnx_worker.convert import rotary
from workers.onnx_worker.convert.shape import Rotary


def test_pairs_go_from_neighbours_to_halves():
    assert rotary.half_split_order(2, 6).tolist() == [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]


@pytest.mark.parametrize(("heads", "width"), [(1, 2), (3, 8), (9, 64)])
def test_the_order_undoes_the_one_of_gguf_files(heads, width):
    original = np.arange(heads * width)
    # What GGUF writers do to the rows of a model that rotates halves.
    stored = original.reshape(heads, 2, width // 2).swapaxes(1, 2).reshape(-1)
    assert np.array_equal(stored[rotary.half_split_order(heads, width)], original)


def test_rotating_halves_of_reordered_rows_is_rotating_neighbours():
    width, position = 8, 5
    vector = np.random.default_rng(0).standard_normal(width)
    cosines, sines = (table[position] for table in rotary.tables(8, width, Rotary(base=10000.0), None))
    turned = (vector[0::2] + 1j * vector[1::2]) * (cosines + 1j * sines)
    halves = vector[rotary.half_split_order(1, width)]
    first, second = halves[: width // 2], halves[width // 2 :]
    assert np.allclose(first * cosines - second * sines, turned.real)
    assert np.allclose(first * sines + second * cosines, turned.imag)


def test_the_tables_turn_the_first_pair_by_one_radian_a_position():
    cosines, sines = rotary.tables(10, 4, Rotary(base=100.0), None)
    assert cosines.shape == sines.shape == (10, 2)
    assert np.allclose(sines[:, 0], np.sin(np.arange(10)))
    assert np.allclose(sines[:, 1], np.sin(np.arange(10) / 10))


def test_factors_slow_their_pairs_down():
    plain, _ = rotary.tables(10, 4, Rotary(base=100.0), None)
    slowed, _ = rotary.tables(10, 4, Rotary(base=100.0), np.array([1, 4], np.float32))
    assert np.array_equal(slowed[:, 0], plain[:, 0])
    assert np.allclose(slowed[:, 1], np.cos(np.arange(10) / 40))
