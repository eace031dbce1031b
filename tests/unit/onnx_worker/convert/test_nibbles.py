"""4-bit blocks with minima, alone and as whole models."""

import gguf
import numpy as np
import onnxruntime as ort
import pytest
from gguf.quants import dequantize, quantize
from onnx import TensorProto, helper

from diplex.errors import UnsupportedModel
from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.tiny_checkpoint import write_checkpoint
from tests.fixtures.tiny_family import write_tiny
from tests.fixtures.tiny_llama import write_tiny_llama
from workers.onnx_worker.convert import convert_checkpoint, convert_gguf
from workers.onnx_worker.convert.nibbles import BLOCK, columns_of_sums, quantise, with_minima
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent

RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(3, 294, 90).tolist()


def logits(source):
    return np.concatenate(list(Reference(source).logits(TOKENS)))


def distance(found, expected):
    """Mean difference, in means of the expected magnitude."""
    return float(np.abs(found - expected).mean() / np.abs(expected).mean())


@pytest.mark.parametrize("kind", ["Q4_1", "Q4_0"])
def test_weights_that_had_four_bits_are_found_again(kind):
    kind = gguf.GGMLQuantizationType[kind]
    matrix = dequantize(quantize(RANDOM.standard_normal((40, 256)).astype(np.float32), kind), kind)
    np.testing.assert_allclose(quantise(matrix).dequantise(), matrix, atol=2e-6)


def test_other_weights_move_by_half_a_step():
    matrix = RANDOM.standard_normal((30, 96)).astype(np.float32)
    blocks = matrix.reshape(30, -1, BLOCK)
    half = (blocks.max(axis=2) - blocks.min(axis=2)) / 8 / 2
    moved = np.abs(quantise(matrix).dequantise() - matrix).reshape(blocks.shape).max(axis=2)
    assert (moved <= half * 1.001).all()


def test_blocks_of_one_value():
    matrix = np.repeat(np.array([[0.0], [3.5], [-2.0]], np.float32), 64, axis=1)
    assert np.array_equal(quantise(matrix).dequantise(), matrix)


@pytest.mark.parametrize("columns", [64, 576, 1536])
def test_one_product_holds_the_minima_too(columns):
    matrix = (RANDOM.standard_normal((48, columns)) + 1.0).astype(np.float32)
    packed = quantise(matrix)
    values, scales = with_minima(packed)
    padded = columns_of_sums(columns)
    assert values.shape == (48, (columns + 2 * padded) // BLOCK, BLOCK // 2)
    states = RANDOM.standard_normal((5, columns)).astype(np.float32)
    sums = np.zeros((5, padded), np.float32)
    sums[:, : columns // BLOCK] = states.reshape(5, -1, BLOCK).sum(axis=2)
    found = product(np.concatenate([states, sums, sums], axis=1), values, scales)
    expected = states @ packed.dequantise().T
    assert distance(found, expected) < 0.01


def product(states, values, scales):
    """The operator's, in full precision."""
    node = helper.make_node(
        "MatMulNBits", ["x", "q", "s"], ["y"], domain="com.microsoft",
        K=states.shape[1], N=len(values), bits=4, block_size=BLOCK,
    )  # fmt: skip
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, states.shape),
        helper.make_tensor_value_info("q", TensorProto.UINT8, values.shape),
        helper.make_tensor_value_info("s", TensorProto.FLOAT, scales.shape),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (len(states), len(values)))
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "product", inputs, [output])
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": states, "q": values, "s": scales})[0]


@pytest.mark.parametrize("precision", ["q4", "q4_mixed"])
def test_a_model_of_four_bits_stays_what_it_was(tmp_path, precision):
    source = write_tiny_llama(tmp_path / "tiny.gguf", quantization="Q4_1")
    convert_gguf(source, tmp_path, precision=precision, report=silent)
    assert distance(PreparedRows(tmp_path).prefill(TOKENS), logits(source)) < 0.05


@pytest.mark.parametrize("family", ["gemma3", "qwen2", "phi3"])
def test_every_product_of_other_families(tmp_path, family):
    source = write_tiny(tmp_path / "tiny.gguf", family, quantization="Q4_1")
    convert_gguf(source, tmp_path, precision="q4", report=silent)
    assert distance(PreparedRows(tmp_path).prefill(TOKENS), logits(source)) < 0.05


def test_eight_bits_where_it_matters_lose_less(tmp_path):
    source, found = write_checkpoint(tmp_path / "source", "llama-tied"), {}
    for precision in ("q4", "q4_mixed", "int8"):
        (tmp_path / precision).mkdir()
        convert_checkpoint(source, tmp_path / precision, precision=precision, report=silent)
        rows = PreparedRows(tmp_path / precision).prefill(TOKENS)
        found[precision] = distance(rows, logits(source))
    assert found["int8"] < found["q4_mixed"] < found["q4"] < 0.5


@pytest.mark.parametrize("family", ["llama-tied", "llama"])
def test_float16_loses_next_to_nothing(tmp_path, family):
    source = write_checkpoint(tmp_path / "source", family)
    convert_checkpoint(source, tmp_path, precision="fp16", report=silent)
    assert distance(PreparedRows(tmp_path).prefill(TOKENS), logits(source)) < 0.002
    assert not list(tmp_path.glob("stage-*"))


def test_float16_refuses_what_it_can_not_hold(tmp_path):
    big = np.full((128, 64), 1e5, np.float32)
    source = write_tiny_llama(tmp_path / "tiny.gguf", tensors={"blk.0.ffn_up.weight": big})
    with pytest.raises(UnsupportedModel, match=r"blk\.0\.ffn_up\.weight has values that float16 can't hold"):
        convert_gguf(source, tmp_path, precision="fp16", report=silent)
