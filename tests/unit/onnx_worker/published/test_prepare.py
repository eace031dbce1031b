"""What is taken from a published folder, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from diplex.errors import UnsupportedModel
from tests.fixtures.published_graphs import write_published
from tests.fixtures.tiny_llama import CONTEXT, HEAD_DIM, KV_HEADS, LAYERS, write_tiny_llama
from workers.onnx_worker.convert.certification import certify
from workers.onnx_worker.published.graphs import Graphs
from workers.onnx_worker.published.prepare import prepare_published
from workers.onnx_worker.published.selection import PROFILES, data_files, select
from workers.runtime.artefact import ModelDescription
from workers.runtime.progress import silent

HUB = [
    "config.json",
    "onnx/decoder_model_merged.onnx",
    "onnx/decoder_model_merged_fp16.onnx",
    "onnx/decoder_model_merged_int8.onnx",
    "onnx/decoder_model_merged_q4.onnx",
    "onnx/decoder_model_merged_q4.onnx_data",
    "onnx/decoder_model_merged_q4.onnx_data_1",
    "onnx/decoder_model_merged_q4f16.onnx",
    "onnx/decoder_model_merged_quantized.onnx",
    "onnx/embed_tokens.onnx",
    "onnx/embed_tokens.onnx_data",
    "onnx/embed_tokens_fp16.onnx",
    "onnx/embed_tokens_int8.onnx",
    "onnx/embed_tokens_q4.onnx",
    "onnx/embed_tokens_q4f16.onnx",
    "onnx/embed_tokens_quantized.onnx",
    "onnx/vision_encoder.onnx",
    "onnx/vision_encoder_fp16.onnx",
    "onnx/vision_encoder_int8.onnx",
    "onnx/vision_encoder_q4.onnx",
    "onnx/vision_encoder_q4f16.onnx",
]


@pytest.fixture
def gguf(tmp_path):
    return write_tiny_llama(tmp_path / "tiny.gguf")


@pytest.fixture
def hub(tmp_path, gguf):
    folder = tmp_path / "hub"
    folder.mkdir()
    return write_published(folder, gguf)


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    return folder


def edited(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_of_a_whole_folder_is_found(profile):
    chosen = select(HUB, profile)
    assert [name.split("/")[1].split(".")[0].replace("_mixed", "") for name in chosen] == {
        "fp32": ["decoder_model_merged", "embed_tokens", "vision_encoder"],
        "fp16": ["decoder_model_merged_fp16", "embed_tokens_fp16", "vision_encoder_fp16"],
        "int8": ["decoder_model_merged_int8", "embed_tokens_int8", "vision_encoder_int8"],
        "q4": ["decoder_model_merged_q4", "embed_tokens_q4", "vision_encoder_q4"],
        "q4f16": ["decoder_model_merged_q4f16", "embed_tokens_q4f16", "vision_encoder_q4f16"],
        "q4_mixed": ["decoder_model_merged_q4", "embed_tokens_int8", "vision_encoder"],
    }[profile]


def test_the_weights_beside_a_graph_are_its_own():
    assert data_files(HUB, "onnx/decoder_model_merged_q4.onnx") == [
        "onnx/decoder_model_merged_q4.onnx_data",
        "onnx/decoder_model_merged_q4.onnx_data_1",
    ]
    assert data_files(HUB, "onnx/decoder_model_merged.onnx") == []


def test_eyes_that_are_not_used_need_not_be_there():
    files = [name for name in HUB if not name.startswith("onnx/vision_encoder_q4")]
    with pytest.raises(UnsupportedModel, match="no vision_encoder for precision 'q4'"):
        select(files, "q4")
    assert select(files, "q4", sees=False).vision is None


def test_graphs_at_the_top_of_a_folder_are_found():
    assert list(select(["model.onnx", "model_quantized.onnx", "config.json"], "int8")) == [
        "model_quantized.onnx"
    ]


@pytest.mark.parametrize(
    ("files", "profile", "said"),
    [
        (HUB, "q3", "'q3' is unknown"),
        (["config.json"], "fp32", "no graphs at all"),
        (["onnx/model_q4.onnx"], "fp16", "no decoder_model_merged for precision 'fp16' among model_q4.onnx"),
        (
            ["onnx/decoder_model_merged_q4.onnx", "onnx/embed_tokens.onnx"],
            "q4",
            "no embed_tokens for precision 'q4'",
        ),
    ],
)
def test_what_is_lacking_is_named(files, profile, said):
    with pytest.raises(UnsupportedModel, match=said):
        select(files, profile)


def test_the_description_says_what_graph_and_settings_say(hub, target):
    prepare_published(hub, target, precision="fp32", report=silent)
    description = ModelDescription.load(target)
    assert (description.layers, description.kv_heads, description.head_dim) == (LAYERS, KV_HEADS, HEAD_DIM)
    assert description.kv_bytes_per_token == 2 * 4 * LAYERS * KV_HEADS * HEAD_DIM
    assert (description.context_length, description.vocab_size) == (CONTEXT, 294)
    assert description.eos_token_ids == (2,)
    assert description.chat_template
    assert Graphs.load(target) == Graphs(
        decoder="onnx/decoder_model_merged.onnx", embedding="onnx/embed_tokens.onnx"
    )


def test_settings_of_the_language_model_may_stand_in_a_section(hub, target):
    edited(hub, text_config={"hidden_size": 64, "max_position_embeddings": 96}, max_position_embeddings=None)
    assert prepare_published(hub, target, precision="fp32", report=silent).context_length == 96


def one_node(path, inputs, outputs):
    """A graph that gives a constant, whatever it takes."""
    nodes = [helper.make_node("Identity", ["one"], [output]) for output in outputs]
    weights = [numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), "one")]
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in part.items()]
        for part in (inputs, dict.fromkeys(outputs, (TensorProto.FLOAT, [None] * 4)))
    ]
    graph = helper.make_graph(nodes, "main_graph", *values, initializer=weights)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


IDS = {"input_ids": (TensorProto.INT64, [None, None])}
PAST = {f"past_key_values.0.{half}": (TensorProto.FLOAT, [None, 2, None, 16]) for half in ("key", "value")}
PRESENT = ["logits", "present.0.key", "present.0.value"]


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        (IDS, ["logits"], "no past_key_values: it would compute every token again"),
        ({**IDS, **PAST}, ["logits", "present.0.key"], "gives no present.0.value"),
        ({**IDS, **PAST, "beam": (TensorProto.INT64, [1])}, PRESENT, "takes beam, which isn't known"),
        (
            {**IDS, **PAST, "position_ids": (TensorProto.INT64, [3, None, None])},
            PRESENT,
            "one number a token",
        ),
        (PAST, PRESENT, "either input_ids or inputs_embeds"),
        (
            {**IDS, **PAST, "past_key_values.0.value": (TensorProto.FLOAT, [None, 2, None, 32])},
            PRESENT,
            "keys and values of different shapes",
        ),
    ],
)
def test_graphs_that_cannot_be_run_are_refused_by_name(hub, target, inputs, outputs, said):
    one_node(hub / "onnx" / "decoder_model_merged.onnx", inputs, outputs)
    with pytest.raises(UnsupportedModel, match=said):
        prepare_published(hub, target, precision="fp32", report=silent)


def test_a_file_that_is_no_graph_is_refused(hub, target):
    (hub / "onnx" / "decoder_model_merged.onnx").write_bytes(b"not a graph")
    with pytest.raises(UnsupportedModel, match="can't open"):
        prepare_published(hub, target, precision="fp32", report=silent)


def test_there_is_nothing_to_certify_them_against(hub, target):
    prepare_published(hub, target, precision="fp32", report=silent)
    with pytest.raises(UnsupportedModel, match="the files are whole"):
        certify(target, hub, silent)
