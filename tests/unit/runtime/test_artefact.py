"""``model.json``, written and read."""

import dataclasses
import json

import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.preprocessing_cases import FULL
from workers.runtime.artefact import FORMAT_VERSION, ModelDescription

DESCRIPTION = ModelDescription(
    name="Tiny ünïcode",
    architecture="llama",
    precision="int8",
    vocab_size=294,
    context_length=512,
    layers=3,
    kv_heads=2,
    head_dim=16,
    hidden_size=64,
    bos_token_id=None,
    eos_token_ids=(2, 0),
    add_bos=False,
    bos_token=None,
    eos_token="<|im_end|>",  # noqa: S106  # a token of text
    chat_template="{{ messages }}",
    kv_bytes_per_token=768,
)


def test_what_was_saved_is_loaded(tmp_path):
    DESCRIPTION.save(tmp_path)
    assert ModelDescription.load(tmp_path) == DESCRIPTION


def test_eyes_are_kept_and_models_without_say_nothing(tmp_path):
    seeing = dataclasses.replace(DESCRIPTION, vision=FULL)
    seeing.save(tmp_path)
    assert ModelDescription.load(tmp_path) == seeing
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    content["vision"]["colours"] = 4
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(UnsupportedModel, match="prepare the model again"):
        ModelDescription.load(tmp_path)
    DESCRIPTION.save(tmp_path)
    assert "vision" not in json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))


def test_it_is_readable_json(tmp_path):
    DESCRIPTION.save(tmp_path)
    content = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert content["format_version"] == FORMAT_VERSION
    assert content["eos_token_ids"] == [2, 0]


def test_another_format_version_is_refused(tmp_path):
    dataclasses.replace(DESCRIPTION, format_version=FORMAT_VERSION + 1).save(tmp_path)
    with pytest.raises(UnsupportedModel, match="format version"):
        ModelDescription.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        f'{{"format_version": {FORMAT_VERSION}}}',
        f'{{"format_version": {FORMAT_VERSION}, "eos_token_ids": []}}',
    ],
)
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    with pytest.raises(UnsupportedModel, match="prepare the model again"):
        ModelDescription.load(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="prepare the model again"):
        ModelDescription.load(tmp_path)
