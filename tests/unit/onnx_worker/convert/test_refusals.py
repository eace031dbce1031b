"""What can't be converted is refused, with a message that says what can."""

import contextlib
import struct

import gguf
import numpy as np
import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.tiny_family import write_tiny
from tests.fixtures.tiny_llama import HEAD_DIM, HIDDEN, write_tiny_llama
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import DESCRIPTION_FILE
from workers.runtime.progress import silent


def refusal(source, target, precision="fp32"):
    target.mkdir(exist_ok=True)
    with pytest.raises(UnsupportedModel) as caught:
        convert_gguf(source, target, precision=precision, report=silent)
    assert not (target / DESCRIPTION_FILE).exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"general.architecture": "mamba"}, ["'mamba'", "supported are", "qwen3"]),
        ({"llama.expert_count": 8}, ["mixture of 8 experts"]),
        ({"llama.rope.scaling.type": "yarn"}, ["'yarn'", "rope_freqs.weight"]),
        ({"llama.rope.scaling.type": "linear"}, ["rope.scaling.factor"]),
        ({"llama.logit_scale": 2.0}, ["llama.logit_scale"]),
        ({"llama.rope.dimension_count": HEAD_DIM // 2}, ["rotary over 8 of 16"]),
        ({"llama.attention.value_length": 8}, ["values of 8"]),
        ({"llama.attention.head_count_kv": 3}, ["4 heads over 3 key heads"]),
        ({"llama.attention.head_count_kv": 0}, ["not positive"]),
        ({"llama.attention.head_count": 0}, ["must be positive"]),
        ({"llama.feed_forward_length": 256}, ["has shape"]),
        ({"llama.block_count": 4}, ["blk.3.", "lacks"]),
        ({"llama.block_count": 2**31}, ["layers in"]),
        ({"llama.block_count": "three"}, ["of type int"]),
        ({"tokenizer.ggml.model": "bert"}, ["'bert'", "byte-level BPE"]),
        ({"tokenizer.ggml.model": "llama"}, ["tokenizer.ggml.scores"]),
        ({"tokenizer.ggml.pre": "tekken"}, ["'tekken'", "smollm"]),
        ({"tokenizer.ggml.eos_token_id": 5000}, ["5000"]),
    ],
)
def test_settings(tmp_path, settings, words):
    message = refusal(write_tiny_llama(tmp_path / "model.gguf", settings=settings), tmp_path / "out")
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.bias", "blk.1.attn_q_norm.weight", "blk.0.ffn_gate_inp.weight"]
)
def test_unknown_tensors(tmp_path, name):
    tensors = {name: np.zeros(HIDDEN, np.float32)}
    message = refusal(write_tiny_llama(tmp_path / "model.gguf", tensors=tensors), tmp_path / "out")
    assert name in message


def test_unknown_precision(tmp_path, tiny_gguf):
    assert "fp32" in refusal(tiny_gguf, tmp_path / "out", precision="int3")


def narrow_tensors():
    """All tensors of a tiny model whose hidden size is 48."""
    layer = {
        "attn_norm": (48,), "attn_q": (64, 48), "attn_k": (32, 48), "attn_v": (32, 48),
        "attn_output": (48, 64), "ffn_norm": (48,), "ffn_gate": (128, 48),
        "ffn_up": (128, 48), "ffn_down": (48, 128),
    }  # fmt: skip
    shapes = {f"blk.{i}.{name}.weight": shape for i in range(3) for name, shape in layer.items()}
    shapes |= {"token_embd.weight": (294, 48), "output_norm.weight": (48,), "output.weight": (294, 48)}
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def test_a_width_that_blocks_do_not_divide(tmp_path):
    settings = {"llama.embedding_length": 48, "llama.attention.key_length": 16}
    source = write_tiny_llama(tmp_path / "model.gguf", tensors=narrow_tensors(), settings=settings)
    assert "no multiple of 32" in refusal(source, tmp_path / "out", precision="int8")
    (tmp_path / "exact").mkdir()
    convert_gguf(source, tmp_path / "exact", precision="fp32", report=silent)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"no model, but long enough to read", b"GGUF\x03\0\0\0"])
def test_files_that_are_no_gguf(tmp_path, content):
    (tmp_path / "model.gguf").write_bytes(content)
    assert "model.gguf" in refusal(tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.parametrize("part", [0.001, 0.01, 0.05, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, tiny_gguf, part):
    whole = tiny_gguf.read_bytes()
    (tmp_path / "model.gguf").write_bytes(whole[: int(len(whole) * part)])
    assert "truncated or damaged" in refusal(tmp_path / "model.gguf", tmp_path / "out")


def test_a_damaged_length_does_not_run_on(tmp_path, tiny_gguf):
    content = bytearray(tiny_gguf.read_bytes())
    key = content.index(b"tokenizer.ggml.token_type") + len(b"tokenizer.ggml.token_type")
    struct.pack_into("<Q", content, key + 8, 2**60)  # behind the types of the value and of its elements
    (tmp_path / "model.gguf").write_bytes(content)
    assert "truncated or damaged" in refusal(tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_raise_nothing_else(tmp_path, tiny_gguf, seed):
    random = np.random.default_rng(seed)
    content = bytearray(tiny_gguf.read_bytes())
    for place in random.integers(0, 9000, 3):
        content[place] ^= int(random.integers(1, 256))
    (tmp_path / "model.gguf").write_bytes(content)
    with contextlib.suppress(UnsupportedModel):
        convert_gguf(tmp_path / "model.gguf", tmp_path, precision="fp32", report=silent)


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        convert_gguf(tmp_path / "none.gguf", tmp_path, precision="int8", report=silent)


def test_a_missing_tokenizer(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert "lacks llama." in refusal(tmp_path / "model.gguf", tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("gemma3", {"gemma3.final_logit_softcapping": 30.0}, ["gemma3.final_logit_softcapping"]),
        ("gemma3", {"gemma3.rope.scaling.type": "yarn"}, ["'yarn'"]),
        ("qwen2", {"qwen2.expert_count": 4}, ["mixture of 4 experts"]),
        ("phi3", {"phi3.rope.dimension_count": 8}, ["rotary over 8 of 16"]),
        ("phi3", {"phi3.attention.head_count_kv": 2}, ["blk.0.attn_qkv.weight has shape"]),
    ],
)
def test_settings_of_other_families(tmp_path, family, settings, words):
    source = write_tiny(tmp_path / "model.gguf", family, further=settings)
    message = refusal(source, tmp_path / "out")
    assert all(word in message for word in words), message
