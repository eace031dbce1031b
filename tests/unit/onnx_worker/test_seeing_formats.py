"""A folder whose model sees is recognised without a catalogue's help."""

from __future__ import annotations

import pytest

from tests.fixtures.published_graphs import write_published_eyes
from tests.fixtures.tiny_eyes import CONTEXT, write_tiny_eyes
from workers.onnx_worker.convert.converter import PRECISIONS
from workers.onnx_worker.formats import OnnxFormats


@pytest.mark.parametrize("model_type", ["idefics3", "smolvlm"])
def test_a_checkpoint_that_sees(tmp_path, model_type):
    folder = write_tiny_eyes(tmp_path, model_type=model_type)
    facts = OnnxFormats().look_at_folder(folder, "safetensors", [])
    assert (facts.architecture, facts.context_length, facts.images) == (model_type, CONTEXT, True)
    assert facts.profiles == PRECISIONS


@pytest.mark.parametrize("without", [(), ("onnx/vision_encoder.onnx",)])
def test_published_graphs_see_where_there_is_an_encoder(tmp_path, without):
    for name in ("checkpoint", "hub"):
        (tmp_path / name).mkdir()
    hub = write_published_eyes(tmp_path / "hub", write_tiny_eyes(tmp_path / "checkpoint"))
    for file in without:
        (hub / file).unlink()
    files = [path.relative_to(hub).as_posix() for path in hub.rglob("*") if path.is_file()]
    facts = OnnxFormats().look_at_folder(hub, "onnx", files)
    assert (facts.profiles, facts.images) == (("fp32",), not without)
