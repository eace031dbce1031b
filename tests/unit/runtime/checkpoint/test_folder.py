"""A checkpoint's settings, special tokens, chat template and sampling defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from diplex.errors import UnsupportedModel
from workers.runtime.catalogue import SamplingDefaults
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.checkpoint.selection import select


def write(folder: Path, name: str, value: object) -> None:
    (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))


def write_tokenizer(folder: Path, template: str = "$A") -> None:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<end>": 2, "a": 3}, "a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<s>", "</s>", "<end>"])
    tokens = [("<s>", 0), ("</s>", 1)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "config.json", {"model_type": "llama", "bos_token_id": 0, "eos_token_id": [1, 2]})
    write_tokenizer(tmp_path)
    return tmp_path


class TestSettings:
    def test_values_have_types(self, folder):
        config = CheckpointFolder(folder).config
        assert config.require("model_type", str) == "llama"
        assert config.get("absent", int) is None
        assert config.section("rope").keys == []
        with pytest.raises(
            UnsupportedModel, match=r"config\.json: model_type should be of type int, not str"
        ):
            config.get("model_type", int)
        with pytest.raises(UnsupportedModel, match=r"config\.json lacks hidden_size"):
            config.require("hidden_size", int)

    @pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
    def test_what_is_no_object_is_refused(self, folder, text):
        write(folder, "config.json", text)
        with pytest.raises(UnsupportedModel, match=r"config\.json"):
            _ = CheckpointFolder(folder).config

    def test_code_of_others_is_refused(self, folder):
        write(folder, "config.json", {"model_type": "new", "auto_map": {"AutoModel": "modeling.New"}})
        with pytest.raises(UnsupportedModel, match=r"needs its publisher's code .* not run here; use llama"):
            CheckpointFolder(folder).refuse_foreign_code("use llama")


class TestTokens:
    def test_ends_are_those_of_all_files(self, folder):
        write(folder, "tokenizer_config.json", {"eos_token": {"content": "<end>"}, "bos_token": "<s>"})
        write(folder, "generation_config.json", {"eos_token_id": 1})
        checkpoint = CheckpointFolder(folder)
        assert checkpoint.ends == (2, 1)
        assert checkpoint.begin == 0

    @pytest.mark.parametrize(
        ("template", "stated", "adds"),
        [("<s> $A", None, True), ("$A", None, False), ("$A", True, True), ("<s> $A", False, False)],
    )
    def test_whether_a_prompt_begins_with_a_token(self, folder, template, stated, adds):
        write_tokenizer(folder, template)
        write(folder, "tokenizer_config.json", {"add_bos_token": stated})
        checkpoint = CheckpointFolder(folder)
        assert checkpoint.adds_begin is adds
        assert checkpoint.tokenizer.backend.encode("a").ids == [3]

    def test_a_model_without_a_begin_token(self, folder):
        write(folder, "config.json", {"model_type": "qwen2"})
        checkpoint = CheckpointFolder(folder)
        assert (checkpoint.begin, checkpoint.adds_begin, checkpoint.ends) == (None, False, ())

    @pytest.mark.parametrize(
        ("template", "message"),
        [("$A </s>", "adds tokens behind"), ("</s> $A", "other tokens before a")],
    )
    def test_other_added_tokens_are_refused(self, folder, template, message):
        write_tokenizer(folder, template)
        with pytest.raises(UnsupportedModel, match=message):
            _ = CheckpointFolder(folder).adds_begin

    def test_what_the_processor_leaves_out_behind_a_text_is_left_out(self, folder):
        write(folder, "config.json", {"model_type": "kosmos-2"})
        write(folder, "tokenizer_config.json", {"bos_token": "<s>"})
        write_tokenizer(folder, "<s> $A </s>")
        checkpoint = CheckpointFolder(folder)
        assert checkpoint.adds_begin
        assert checkpoint.tokenizer.backend.encode("a").ids == [3]

    def test_a_missing_tokenizer_says_what_to_do(self, folder):
        (folder / "tokenizer.json").unlink()
        with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json; transformers writes one"):
            _ = CheckpointFolder(folder).tokenizer


class TestTemplate:
    def test_the_first_place_counts(self, folder):
        assert CheckpointFolder(folder).chat_template is None
        write(folder, "tokenizer_config.json", {"chat_template": "config"})
        assert CheckpointFolder(folder).chat_template == "config"
        write(folder, "chat_template.json", {"chat_template": "json"})
        assert CheckpointFolder(folder).chat_template == "json"
        write(folder, "chat_template.jinja", "jinja")
        assert CheckpointFolder(folder).chat_template == "jinja"

    def test_of_several_the_default(self, folder):
        named = [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]
        write(folder, "tokenizer_config.json", {"chat_template": named})
        assert CheckpointFolder(folder).chat_template == "d"
        write(folder, "tokenizer_config.json", {"chat_template": named[:1]})
        assert CheckpointFolder(folder).chat_template == "r"

    @pytest.mark.parametrize("value", [7, [], [{"name": "x"}], ["x"], [{"name": "x", "template": 7}]])
    def test_anything_else_is_refused(self, folder, value):
        write(folder, "tokenizer_config.json", {"chat_template": value})
        with pytest.raises(UnsupportedModel, match="chat_template"):
            _ = CheckpointFolder(folder).chat_template


class TestSampling:
    def test_what_the_file_says(self, folder):
        values = {
            "do_sample": True,
            "temperature": 0.6,
            "top_k": 20,
            "top_p": 0.95,
            "repetition_penalty": 1.1,
        }
        write(folder, "generation_config.json", values | {"num_beams": 1})
        expected = SamplingDefaults(temperature=0.6, top_k=20, top_p=0.95, repetition_penalty=1.1)
        assert CheckpointFolder(folder).generation.sampling == expected

    def test_greedy_models(self, folder):
        write(folder, "generation_config.json", {"do_sample": False, "top_k": 50})
        assert CheckpointFolder(folder).generation.sampling == SamplingDefaults(temperature=0)

    def test_values_that_change_nothing(self, folder):
        values = {"top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "min_p": 0.0}
        write(folder, "generation_config.json", values)
        assert CheckpointFolder(folder).generation.sampling == SamplingDefaults()


class TestSelection:
    def test_the_model_and_nothing_else(self):
        present = [
            "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "config.json",
            "model.safetensors.index.json", "tokenizer.json", "README.md", "modeling.py",
            "pytorch_model.bin", "consolidated.safetensors", "original/model.safetensors", "onnx/model.onnx",
            "chat_template.jinja",
        ]  # fmt: skip
        assert select(present, "safetensors", "x") == (
            "chat_template.jinja", "config.json", "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json",
        )  # fmt: skip
        assert select(present, "onnx", "x") == (
            "chat_template.jinja", "config.json", "onnx/model.onnx", "tokenizer.json"
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("present", "message"),
        [
            (["config.json", "pytorch_model.bin"], r"pickles \(pytorch_model\.bin\), which run code"),
            (["adapter_config.json", "adapter_model.safetensors"], "is an adapter"),
            (["x.gguf"], "GGUF files"),
            (["README.md"], r"holds no model\.safetensors"),
            (["model.safetensors"], r"no config\.json"),
        ],
    )
    def test_why_a_folder_is_none(self, present, message):
        with pytest.raises(UnsupportedModel, match=message):
            select(present, "safetensors", "owner/x")
