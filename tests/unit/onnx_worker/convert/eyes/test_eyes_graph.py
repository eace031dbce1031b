"""The graph of the eyes against the reference in numpy."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from tests.fixtures.tiny_eyes import ROWS, TEXT_HIDDEN, TILE, write_tiny_eyes
from workers.onnx_worker.convert.eyes.graph import FEATURES, PIXELS, EyesGraph
from workers.onnx_worker.convert.eyes.precision import EyesFloat32, EyesInt8
from workers.onnx_worker.convert.eyes.rotation import RotatedTower
from workers.onnx_worker.convert.eyes.shape import EyesShape
from workers.onnx_worker.convert.eyes.tower import CheckpointTower, position_ids, tensor_shapes
from workers.onnx_worker.convert.rotation import random_rotation
from workers.onnx_worker.convert.weights import WeightFile
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.fidelity.eyes import EyesReference


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_tiny_eyes(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def tile():
    return np.random.default_rng(1).uniform(-1, 1, (1, 3, TILE, TILE)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(checkpoint, tile):
    return EyesReference(checkpoint, np.float64).features(tile[0])


def build(checkpoint, folder, precision_of):
    source = CheckpointFolder(checkpoint)
    shape = EyesShape.of(source.config, TEXT_HIDDEN)
    tower = CheckpointTower(source.tensors, shape)
    with WeightFile(folder / "eyes.onnx.data") as weights:
        model = EyesGraph(shape, precision_of(tower, shape), weights).build()
    (folder / "eyes.onnx").write_bytes(model.SerializeToString())
    return onnxruntime.InferenceSession(folder / "eyes.onnx", providers=["CPUExecutionProvider"])


def distance(features, expected):
    """Root mean square of the difference, in parts of that of what is expected."""
    return float(np.sqrt(np.square(features - expected).mean() / np.square(expected).mean()))


def test_float32_equals_the_reference(checkpoint, tile, expected, tmp_path):
    session = build(checkpoint, tmp_path, lambda tower, _: EyesFloat32(tower))
    (features,) = session.run([FEATURES], {PIXELS: tile})
    assert features.shape == (ROWS, TEXT_HIDDEN)
    assert distance(features, expected) < 1e-5


def test_the_rotated_eyes_compute_the_same(checkpoint, tile, expected, tmp_path):
    """In float32, so that nothing is rounded; features are turned as the language model's stream is."""
    turn = random_rotation(TEXT_HIDDEN)
    session = build(
        checkpoint, tmp_path, lambda tower, shape: RotatedFloat32(RotatedTower(tower, shape, turn))
    )
    (features,) = session.run([FEATURES], {PIXELS: tile})
    assert distance(features, expected @ turn) < 1e-5


class RotatedFloat32(EyesFloat32):
    """Normalises as the int8 graph does."""

    norm = EyesInt8.norm


def test_int8_is_close(checkpoint, tile, expected, tmp_path):
    turn = random_rotation(TEXT_HIDDEN)
    session = build(checkpoint, tmp_path, lambda tower, shape: EyesInt8(RotatedTower(tower, shape, turn)))
    (features,) = session.run([FEATURES], {PIXELS: tile})
    assert distance(features, expected @ turn) < 0.03


def test_every_tensor_of_the_eyes_is_known(checkpoint):
    source = CheckpointFolder(checkpoint)
    tensors = source.tensors
    of_eyes = [name for name in tensors.names if "text_model" not in name and "lm_head" not in name]
    expected = tensor_shapes(EyesShape.of(source.config, TEXT_HIDDEN))
    assert expected == {name: tensors.shape(name) for name in of_eyes}


@pytest.mark.parametrize("side", [4, 8, 16, 32])
def test_positions_are_in_order_where_boundaries_are_exact(side):
    assert position_ids(side).tolist() == list(range(side * side))
