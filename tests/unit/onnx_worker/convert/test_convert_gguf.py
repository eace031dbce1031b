"""The artefact as a whole: files, description, progress, determinism."""

import hashlib

import onnx
import pytest

from tests.fixtures.tiny_llama import (
    CHAT_TEMPLATE,
    CONTEXT,
    HEAD_DIM,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    SPECIAL_TOKENS,
    write_tiny_llama,
)
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.progress import Phase, silent

STAGES = {f"stage-{number:02}.onnx" for number in range(LAYERS)}
FILES = {"model.json", "model.onnx", "model.onnx.data", "tokenizer.json", *STAGES}


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("quantization", ["F32", "BF16", "Q8_0", "Q4_1"])
def test_the_same_file_gives_the_same_bytes(tmp_path, precision, quantization):
    source = write_tiny_llama(tmp_path / "tiny.gguf", quantization=quantization)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        convert_gguf(source, tmp_path / name, precision=precision, report=silent)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    assert set(digests(tmp_path / "first")) == FILES | ({"tensors.json"} if precision == "int8" else set())


def test_the_description_says_what_the_file_says(prepared):
    description = ModelDescription.load(prepared)
    assert description.name == "Tiny Llama fixture"
    assert description.architecture == "llama"
    assert description.vocab_size == 294
    assert (description.layers, description.hidden_size, description.context_length) == (
        LAYERS,
        HIDDEN,
        CONTEXT,
    )
    assert (description.kv_heads, description.head_dim) == (KV_HEADS, HEAD_DIM)
    assert description.kv_bytes_per_token == 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
    assert (description.bos_token, description.bos_token_id, description.add_bos) == (
        "<|endoftext|>",
        0,
        False,
    )
    assert (description.eos_token, description.eos_token_ids) == ("<|im_end|>", (2,))
    assert description.chat_template == CHAT_TEMPLATE


def test_every_end_token_is_listed_once(tmp_path):
    settings = {"tokenizer.ggml.eot_token_id": 2, "tokenizer.ggml.eom_token_id": 7}
    source = write_tiny_llama(tmp_path / "tiny.gguf", end_of_text="<|endoftext|>", settings=settings)
    description = convert_gguf(source, tmp_path, precision="fp32", report=silent)
    assert description.eos_token_ids == (0, 2, 7)
    assert description.eos_token == SPECIAL_TOKENS[0]


def test_every_tensor_is_reported(tmp_path, tiny_gguf):
    seen = []
    convert_gguf(tiny_gguf, tmp_path, precision="int8", report=seen.append)
    assert {progress.phase for progress in seen} == {Phase.CONVERT}
    assert [progress.done for progress in seen] == list(range(1, len(seen) + 1))
    assert {progress.total for progress in seen} == {len(seen)}
    assert "blk.1.ffn_up.weight" in {progress.detail for progress in seen}


def test_the_graph_has_the_agreed_inputs_and_outputs(prepared):
    graph = onnx.load(prepared / "model.onnx", load_external_data=False).graph
    halves = [f"{layer}.{half}" for layer in range(LAYERS) for half in ("key", "value")]
    inputs = ["input_ids", "query_seqlens", "seqlens_k", "total_sequence_length", "logit_rows"]
    assert [value.name for value in graph.input] == inputs + [f"past_key_values.{half}" for half in halves]
    assert [value.name for value in graph.output] == ["logits", *(f"present.{half}" for half in halves)]
    nodes_a_layer = 25 if ModelDescription.load(prepared).precision == "int8" else 12
    assert len(graph.node) <= nodes_a_layer * LAYERS + 9


def test_a_tied_head_is_stored_once(tmp_path):
    sizes = {}
    for tied in (True, False):
        folder = tmp_path / str(tied)
        folder.mkdir()
        source = write_tiny_llama(tmp_path / "tiny.gguf", tied=tied)
        convert_gguf(source, folder, precision="fp32", report=silent)
        sizes[tied] = (folder / "model.onnx.data").stat().st_size
    assert sizes[False] - sizes[True] >= 294 * HIDDEN * 4
