import numpy as np
import pytest

pytest.importorskip("numba")

from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.numbers import (
    LOOSE,
    exponential,
    largest,
    largest_magnitude,
    to_byte,
)

pytestmark = pytest.mark.usefixtures("instructions")


def over(function, **options):
    """A compiled loop over an array, as those of the package have it."""

    @compiled(**options)
    def fill(numbers, results):
        for each in range(len(numbers)):
            results[each] = function(numbers[each])

    return fill


@pytest.mark.parametrize("options", [{}, {"fastmath": LOOSE}], ids=["strict", "loose"])
def test_exponential_is_numpys(options):
    numbers = np.concatenate([np.linspace(-87, 88, 1_000_003), np.linspace(-1e-3, 1e-3, 1001), [0, 88, -87]])
    numbers = numbers.astype(np.float32)
    found = np.empty_like(numbers)
    over(exponential, **options)(numbers, found)
    np.testing.assert_allclose(found, np.exp(numbers.astype(np.float64)), rtol=3e-7)
    assert found[-3] == 1


@pytest.mark.parametrize("options", [{}, {"fastmath": LOOSE}], ids=["strict", "loose"])
def test_exponential_stays_at_its_ends(options):
    numbers = np.array([-np.inf, -1e30, -88, -87, 88, 89, 1e30, np.inf] * 4, np.float32)
    found = np.empty_like(numbers)
    over(exponential, **options)(numbers, found)
    expected = np.exp(np.clip(numbers.astype(np.float64), -87, 88))
    np.testing.assert_allclose(found, expected, rtol=3e-7)


@pytest.mark.parametrize("options", [{}, {"fastmath": LOOSE}], ids=["strict", "loose"])
def test_bytes_are_rounded_to_even_and_cut(options):
    halves = np.arange(-300, 300, 0.5)
    near = np.nextafter(halves.astype(np.float32), np.float32(np.inf))
    steps = np.concatenate([halves, near, [-1e9, 1e9, -np.inf, np.inf, -0.0]]).astype(np.float32)
    found = np.empty(len(steps), np.uint8)
    over(to_byte, **options)(steps, found)
    np.testing.assert_array_equal(found, np.clip(np.rint(steps), -128, 127) + 128)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 64, 250])
def test_largest_is_the_maximum(count):
    row = np.random.default_rng(count).standard_normal(256).astype(np.float32) - 5
    row[count:] = 100
    assert largest(row, count) == row[:count].max()
    assert largest_magnitude(row[:count]) == np.abs(row[:count]).max()
