"""Folders of safetensors of every family, converted, against the independent reference."""

import json
from itertools import pairwise

import numpy as np
import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.safetensors_file import write_safetensors
from tests.fixtures.tiny_checkpoint import CONTEXT, END, FAMILIES, write_checkpoint
from tests.fixtures.tiny_llama import CHAT_TEMPLATE, vocabulary
from workers.onnx_worker.convert import convert_checkpoint
from workers.runtime.checkpoint import TensorFolder
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent
from workers.runtime.text.tokenizer import Tokenizer

TOLERANCE = 3e-4  # of logits up to 40, float32 summed in another order
TOKENS = np.random.default_rng(3).integers(3, len(vocabulary()[0]), 90).tolist()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def source(family, tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source") / family, family)


@pytest.fixture(scope="module")
def expected(source):
    return logits(source)


@pytest.fixture
def llama(tmp_path):
    return write_checkpoint(tmp_path / "source", "llama")


def logits(source):
    return np.concatenate(list(Reference(source).logits(TOKENS)))


def converted(source, target, precision="fp32"):
    target.mkdir()
    return convert_checkpoint(source, target, precision=precision, report=silent)


def change(source, **settings):
    config = json.loads((source / "config.json").read_text()) | settings
    (source / "config.json").write_text(json.dumps(config))


def difference(first, second):
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())


def test_fp32_agrees_with_the_reference(source, expected, tmp_path):
    converted(source, tmp_path / "out")
    rows, found = PreparedRows(tmp_path / "out"), []
    for start, end in pairwise((0, 1, 40, 90)):
        found.append(rows.run([TOKENS[start:end]], [end], range(end - start)))
    assert difference(np.concatenate(found), expected) < TOLERANCE


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2", "gemma", "gemma3"])
def test_int8_is_near_the_reference(kind, tmp_path):
    source = write_checkpoint(tmp_path / "source", kind)
    expected = logits(source)
    converted(source, tmp_path / "out", "int8")
    found = PreparedRows(tmp_path / "out").prefill(TOKENS)
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()


def test_the_description_says_what_the_files_say(family, source, tmp_path):
    description = converted(source, tmp_path / "out")
    names = {"llama-tied": "llama", "llama3": "llama", "llama-linear": "llama", "qwen2-yarn": "qwen2"}
    assert description.architecture == names.get(family, family.removesuffix("-long"))
    assert description.context_length == (256 if family == "phi3-long" else CONTEXT)
    assert description.eos_token_ids == (END,)
    assert (description.bos_token, description.eos_token) == ("<|endoftext|>", "<|im_end|>")
    assert (description.add_bos, description.chat_template) == (False, CHAT_TEMPLATE)
    text = "The user, 12 🙂"
    tokenizer = Tokenizer.from_file(tmp_path / "out" / "tokenizer.json")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(("kind", "shards"), [("BF16", 1), ("F16", 3), ("F32", 2)])
def test_types_and_shards(tmp_path, kind, shards):
    source = write_checkpoint(tmp_path / "source", "llama", kind=kind, shards=shards)
    converted(source, tmp_path / "out")
    found = PreparedRows(tmp_path / "out").prefill(TOKENS)
    assert difference(found, logits(source)) < TOLERANCE
    exact = difference(found, logits(write_checkpoint(tmp_path / "exact", "llama"))) < TOLERANCE
    assert exact is (kind == "F32")


def test_what_old_versions_left_behind_is_no_part_of_the_model(tmp_path):
    source = write_checkpoint(tmp_path / "source", "llama-tied")
    expected, tensors = logits(source), TensorFolder(source)
    content = {name: tensors.floats(name) for name in tensors.names}
    content["lm_head.weight"] = content["model.embed_tokens.weight"]
    content["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    write_safetensors(source / "model.safetensors", content)
    converted(source, tmp_path / "out")
    assert difference(PreparedRows(tmp_path / "out").prefill(TOKENS), expected) < TOLERANCE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bert"}, "model_type 'bert', which can't be converted; supported are"),
        ({"model_type": "new", "auto_map": {"AutoModel": "x.Y"}}, "needs its publisher's code"),
        ({"hidden_act": "relu"}, "the activation 'relu'"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"quantization_config": {"bits": 4}}, "quantised weights"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "scales its rotary embedding by 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "lacks factor"),
        ({"partial_rotary_factor": 0.5}, r"rotary over 0\.5 of a head"),
        ({"num_hidden_layers": 2}, r"has tensors that can't be converted: model\.layers\.2\."),
        ({"num_hidden_layers": 4}, r"lacks the tensor model\.layers\.3\.input_layernorm\.weight"),
        ({"intermediate_size": 96}, r"mlp\.gate_proj\.weight has shape \(128, 64\), config\.json says"),
        ({"num_attention_heads": 3, "head_dim": 16}, "3 heads of 16 over 2 key heads"),
        ({"hidden_size": 0}, "hidden_size should be positive, not 0"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers should be of type int, not str"),
        ({"eos_token_id": 9999}, "name token 9999, and the embedding has"),
    ],
)
def test_what_can_not_be_converted_is_refused(llama, tmp_path, settings, message):
    change(llama, **settings)
    with pytest.raises(UnsupportedModel, match=message):
        converted(llama, tmp_path / "out")


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window can't be converted"),
        ("gemma3", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("gemma3", {"layer_types": ["full_attention"] * 2}, "layer_types should name"),
        (
            "gemma3",
            {
                "layer_types": [
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                    *["sliding_attention"] * 4,
                ]
            },
            "at regular intervals",
        ),
        ("phi3-long", {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, "should be 8 numbers"),
    ],
)
def test_variants_of_other_families_that_are_refused(tmp_path, family, settings, message):
    source = write_checkpoint(tmp_path / "source", family, further=settings)
    with pytest.raises(UnsupportedModel, match=message):
        converted(source, tmp_path / "out")


def test_an_unknown_tensor_is_refused(llama, tmp_path):
    tensors = TensorFolder(llama)
    content = {name: tensors.floats(name) for name in tensors.names}
    write_safetensors(llama / "model.safetensors", content | {"model.extra.weight": np.ones(3, np.float32)})
    with pytest.raises(UnsupportedModel, match=r"has tensors that can't be converted: model\.extra\.weight"):
        converted(llama, tmp_path / "out")


def test_the_same_folder_gives_the_same_bytes(llama, tmp_path):
    for name in ("first", "second"):
        converted(llama, tmp_path / name, "int8")
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes(), file.name
