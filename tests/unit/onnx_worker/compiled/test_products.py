import numpy as np
import pytest

pytest.importorskip("numba")

from workers.onnx_worker.compiled.functions.assembly import compiled
from workers.onnx_worker.compiled.functions.products import gate, multiply, weighted_sums
from workers.onnx_worker.compiled.functions.tiles import copy_floats, float_dots, turn_tile

pytestmark = pytest.mark.usefixtures("instructions")

GUARD = np.float32(-7)
"""What lies around a result, and has to be there afterwards."""


def aligned(values):
    """A copy that begins at a line of the cache."""
    room = np.empty(values.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    copy = room[first : first + values.nbytes].view(values.dtype).reshape(values.shape)
    copy[...] = values
    return copy


def packed(matrix):
    """int8 ``[inputs, 32]`` as two blocks ``[inputs / 4, 16, 4]``."""
    inputs = len(matrix)
    return aligned(matrix.reshape(inputs // 4, 4, 2, 16).transpose(2, 0, 3, 1))


def product(rounded, matrix, scales, factors, addend):
    rows, inputs = len(rounded), len(matrix)
    block, result = packed(matrix), np.full((rows + 1, 48), GUARD)
    starts = -128 * matrix.sum(axis=0, dtype=np.int32)
    multiply(
        rows, rounded, inputs, block.ctypes.data, starts.ctypes.data, scales.ctypes.data, factors,
        addend.ctypes.data, addend.strides[0], result.ctypes.data, result.strides[0], block.ctypes.data,
    )  # fmt: skip
    assert (result[rows:] == GUARD).all()
    assert (result[:, 32:] == GUARD).all()
    return result[:rows, :32]


@pytest.mark.parametrize("rows", [*range(1, 10), 16, 17])
@pytest.mark.parametrize("inputs", [4, 1536])
def test_products_of_bytes_are_exact(rows, inputs):
    random = np.random.default_rng(rows)
    rounded = random.integers(0, 256, (rows, inputs + 64), np.uint8)
    matrix = random.integers(-127, 128, (inputs, 32), np.int8)
    found = product(
        rounded, matrix, *(np.ones(n, np.float32) for n in (32, rows)), np.zeros((rows, 32), "f4")
    )
    sums = (rounded[:, :inputs].astype(np.int64) - 128) @ matrix.astype(np.int64)
    np.testing.assert_array_equal(found, sums.astype(np.float32))


@pytest.mark.parametrize(("byte", "weight"), [(0, 127), (0, -127), (255, 127), (255, -127)])
def test_the_largest_products_dont_overflow(byte, weight):
    rounded, matrix = np.full((3, 8192), byte, np.uint8), np.full((8192, 32), weight, np.int8)
    found = product(rounded, matrix, np.ones(32, "f4"), np.ones(3, "f4"), np.zeros((3, 32), "f4"))
    np.testing.assert_array_equal(found, np.float32((byte - 128) * weight * 8192))


def test_products_are_scaled_and_added_to_what_is_there():
    random = np.random.default_rng(0)
    rounded, matrix = (
        random.integers(0, 256, (11, 96), np.uint8),
        random.integers(-127, 128, (96, 32), np.int8),
    )
    scales, factors = random.uniform(0.1, 1, 32).astype("f4"), random.uniform(0.1, 1, 11).astype("f4")
    addend = random.standard_normal((11, 32)).astype("f4")
    sums = (rounded.astype(np.int64) - 128) @ matrix.astype(np.int64)
    expected = sums * (scales * factors[:, None]).astype(np.float64) + addend
    np.testing.assert_allclose(
        product(rounded, matrix, scales, factors, addend), expected, rtol=1e-6, atol=1e-6
    )
    # A bias is one row for all.
    bias = addend[:1].repeat(11, axis=0)
    np.testing.assert_array_equal(
        product(rounded, matrix, scales, factors, np.broadcast_to(addend[0], (11, 32))),
        product(rounded, matrix, scales, factors, bias),
    )


@pytest.mark.parametrize("rows", range(1, 8))
@pytest.mark.parametrize("width", [16, 64, 80])
@pytest.mark.parametrize("count", [1, 37])
def test_weighted_sums_are_a_product(rows, width, count):
    random = np.random.default_rng(rows)
    weights = random.standard_normal((rows, count + 3)).astype("f4")
    vectors = random.standard_normal((count, width + 16)).astype("f4")
    sums = np.full((rows + 1, width + 16), GUARD)
    weighted_sums(
        rows, weights.ctypes.data, weights.strides[0], vectors.ctypes.data, width + 16, width, count,
        sums.ctypes.data, sums.strides[0], vectors.ctypes.data,
    )  # fmt: skip
    expected = weights[:, :count].astype("f8") @ vectors[:, :width].astype("f8")
    np.testing.assert_allclose(sums[:rows, :width], expected, rtol=0, atol=1e-5)
    assert (sums[rows:] == GUARD).all()
    assert (sums[:, width:] == GUARD).all()


@compiled()
def dots_of(left, right, dots):
    float_dots(
        len(left), left.ctypes.data, left.strides[0], right.ctypes.data, right.strides[0],
        left.shape[1] // 16, dots.ctypes.data, dots.strides[0], right.ctypes.data,
    )  # fmt: skip


@pytest.mark.parametrize("rows", range(1, 5))
@pytest.mark.parametrize("vectors", [1, 4, 5])
def test_dots_are_a_product(rows, vectors):
    random = np.random.default_rng(rows)
    left, right = (random.standard_normal((n, 16 * vectors)).astype("f4") for n in (rows, 4))
    dots = np.full((rows, 6), GUARD)
    dots_of(left, right, dots)
    np.testing.assert_allclose(dots[:, :4], left.astype("f8") @ right.T.astype("f8"), rtol=0, atol=1e-5)
    assert (dots[:, 4:] == GUARD).all()


def test_a_turned_tile_is_its_transpose():
    @compiled()
    def turn(source, target):
        turn_tile(source.ctypes.data, source.strides[0], target.ctypes.data, target.strides[0])

    source, target = np.arange(16 * 24, dtype="f4").reshape(16, 24), np.full((17, 40), GUARD)
    turn(source, target)
    np.testing.assert_array_equal(target[:16, :16], source[:, :16].T)
    assert (target[16:] == GUARD).all()
    assert (target[:, 16:] == GUARD).all()


def test_copied_floats_are_the_same_and_no_more():
    @compiled()
    def copy(source, target, vectors):
        copy_floats(source.ctypes.data, target.ctypes.data, vectors)

    source, target = np.arange(80, dtype="f4"), np.full(80, GUARD)
    copy(source, target, 3)
    np.testing.assert_array_equal(target, [*range(48), *[GUARD] * 32])


def test_gated_is_silu_times_up():
    both = np.random.default_rng(0).standard_normal(32).astype("f4") * np.float32(20)
    both[:3] = 0, 200, -200
    gated = np.empty(16, np.float32)
    gate(both, gated)
    part = both[:16].astype("f8")
    np.testing.assert_allclose(gated, part / (1 + np.exp(-part)) * both[16:], rtol=1e-6, atol=1e-30)
