"""Tensors of safetensors files: types, shards, and files that are not whole."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.safetensors_file import write_safetensors, write_shards
from workers.runtime.checkpoint import TensorFolder

RANDOM = np.random.default_rng(0)
TENSORS = {
    "embed.weight": RANDOM.standard_normal((7, 4)).astype(np.float32),
    "norm.weight": RANDOM.standard_normal(4).astype(np.float32),
    "layer.weight": RANDOM.standard_normal((3, 5)).astype(np.float32),
}


@pytest.mark.parametrize(("kind", "bits"), [("F32", 24), ("F64", 24), ("F16", 11), ("BF16", 8)])
def test_floats_of_every_type(tmp_path, kind, bits):
    write_safetensors(tmp_path / "model.safetensors", TENSORS, kind)
    tensors = TensorFolder(tmp_path)
    assert set(tensors.names) == set(TENSORS)
    for name, values in TENSORS.items():
        found = tensors.floats(name)
        assert (found.dtype, found.shape, tensors.kind(name)) == (np.float32, values.shape, kind)
        np.testing.assert_allclose(found, values, rtol=2.0 ** (1 - bits), atol=1e-7)


def test_bfloat16_is_exact_where_it_can_be(tmp_path):
    values = np.array([1.0, -0.5, 3.140625, 0.0, -0.0, np.inf, 1e-40], np.float32)
    write_safetensors(tmp_path / "model.safetensors", {"a": values}, "BF16")
    found = TensorFolder(tmp_path).floats("a")
    assert found[:6].tobytes() == values[:6].tobytes()


def test_rows_by_slice_and_by_index(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", TENSORS, "BF16")
    tensors = TensorFolder(tmp_path)
    whole = tensors.floats("embed.weight")
    assert np.array_equal(tensors.floats("embed.weight", slice(2, 5)), whole[2:5])
    assert np.array_equal(tensors.floats("embed.weight", np.array([6, 0, 6])), whole[[6, 0, 6]])


def test_tensors_that_are_not_aligned(tmp_path):
    file = write_safetensors(tmp_path / "model.safetensors", {"a": TENSORS["norm.weight"]})
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    file.write_bytes(struct.pack("<Q", length + 1) + data[8 : 8 + length] + b" " + data[8 + length :])
    assert np.array_equal(TensorFolder(tmp_path).floats("a"), TENSORS["norm.weight"])


def test_shards_are_one_checkpoint(tmp_path):
    write_shards(tmp_path, TENSORS, 2)
    tensors = TensorFolder(tmp_path)
    assert set(tensors.names) == set(TENSORS)
    assert np.array_equal(tensors.floats("layer.weight"), TENSORS["layer.weight"])


def test_a_missing_shard_is_named(tmp_path):
    write_shards(tmp_path, TENSORS, 2)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"lacks model-00002-of-00002\.safetensors"):
        TensorFolder(tmp_path)


def test_an_index_stays_in_its_folder(tmp_path):
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsupportedModel, match="outside its folder"):
        TensorFolder(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 8, 60, -1])
def test_a_truncated_file_is_refused(tmp_path, length):
    file = write_safetensors(tmp_path / "model.safetensors", TENSORS)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(UnsupportedModel, match=r"model\.safetensors is no safetensors file, or a truncated"):
        TensorFolder(tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [8, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]},
        {"dtype": "F32"},
        ["F32"],
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, entry):
    header = json.dumps({"a": entry}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(UnsupportedModel, match="is no safetensors file"):
        TensorFolder(tmp_path)


def test_what_is_no_float_is_refused_when_it_is_asked_for(tmp_path):
    write_safetensors(tmp_path / "model.safetensors", {"a": np.arange(3)}, "I8")
    tensors = TensorFolder(tmp_path)
    assert tensors.shape("a") == (3,)
    with pytest.raises(UnsupportedModel, match="tensor a is of type I8; read are F64, F32, F16, BF16"):
        tensors.floats("a")
    with pytest.raises(UnsupportedModel, match="lacks the tensor b"):
        tensors.floats("b")
