"""The rotated model is the model: same logits, other channels."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.tiny_llama import HIDDEN, write_tiny_llama
from workers.onnx_worker.convert import convert_gguf
from workers.onnx_worker.convert.calibration import Calibration, calibration_tokens
from workers.onnx_worker.convert.checkpoint import Checkpoint
from workers.onnx_worker.convert.float32 import Float32
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.metadata import read_shape
from workers.onnx_worker.convert.rotation import RotatedModel, evening_gains, random_rotation
from workers.onnx_worker.convert.tokenizer import build_tokenizer
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent

TOKENS = np.random.default_rng(4).integers(0, 294, 80).tolist()


def calibration(path):
    return Calibration(path, calibration_tokens(build_tokenizer(GgufFile(path)), (), 512))


def rotated(path):
    file = GgufFile(path)
    shape = read_shape(file)
    return RotatedModel(Checkpoint(file, shape), shape, calibration(path))


def whole_mixing(mixing, width):
    """The mixing of groups as one matrix for a whole row."""
    return np.kron(np.eye(width // len(mixing)), mixing).astype(np.float32)


@pytest.mark.parametrize("tied", [False, True])
def test_it_computes_what_the_model_computes(tmp_path, monkeypatch, tied):
    source = write_tiny_llama(tmp_path / "tiny.gguf", tied=tied)

    def turned(self, checkpoint, shape, calibration):
        self.model = rotated(checkpoint.path)
        return self.model, replace(shape, tied=False)

    def mixing_linear(self, nodes, name, states, parts):
        if "ffn_down" in parts[0].name:
            mixing = nodes.weights.add(f"{name}.mixing", whole_mixing(self.model.mixing, parts[0].shape[1]))
            states = nodes.add("MatMul", f"{name}.mixed", [states, mixing])
        return linear(self, nodes, name, states, parts)

    linear = Float32.linear
    monkeypatch.setattr(Float32, "source", turned)
    monkeypatch.setattr(Float32, "linear", mixing_linear)
    (tmp_path / "turned").mkdir()
    convert_gguf(source, tmp_path / "turned", precision="fp32", report=silent)
    expected = np.concatenate(list(Reference(source).logits(TOKENS)))
    found = PreparedRows(tmp_path / "turned").prefill(TOKENS)
    assert np.abs(found - expected).max() < 5e-4  # of logits up to 40, float32


def test_what_its_matrices_read_fits_their_weights(tiny_gguf):
    """Turned inputs times turned weights are the original's products."""
    file = GgufFile(tiny_gguf)
    shape = read_shape(file)
    original, checkpoint = calibration(tiny_gguf), Checkpoint(file, shape)
    model = rotated(tiny_gguf)
    for layer in range(shape.layers):
        for part in ("attn_q", "ffn_gate"):
            name = f"blk.{layer}.{part}.weight"
            expected = original.inputs(name) @ checkpoint.floats(name).T.astype(np.float64)
            found = model.inputs(name) @ model.floats(name).T.astype(np.float64)
            assert np.allclose(found, expected, atol=1e-4), name


def test_behind_a_norm_values_are_spread_evenly(tiny_gguf):
    inputs = rotated(tiny_gguf).inputs("blk.2.ffn_gate.weight")
    assert np.allclose(np.sqrt(np.square(inputs).mean(axis=1)), 1, atol=1e-3)


def test_calibration_goes_one_way(tiny_gguf):
    inputs_of = calibration(tiny_gguf).inputs
    assert inputs_of("blk.0.attn_q.weight").dtype == np.float64
    inputs_of("output.weight")
    with pytest.raises(KeyError):
        inputs_of("blk.0.attn_q.weight")


def test_a_rotation_keeps_lengths():
    turn = random_rotation(HIDDEN)
    assert np.allclose(turn @ turn.T, np.eye(HIDDEN), atol=1e-12)
    assert np.array_equal(turn, random_rotation(HIDDEN))


def test_gains_share_the_spread():
    random = np.random.default_rng(1)
    inputs = random.standard_normal((50, 8)) * [1, 1, 1, 1, 100, 1, 1, 1]
    columns = random.standard_normal((6, 8)).astype(np.float32)
    gains = evening_gains(inputs, columns)
    assert gains[4] == gains.min()
    assert np.isclose(np.prod(gains), 1)
