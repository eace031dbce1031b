"""Graphs as hubs publish them, from a folder to an answer over gRPC."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from diplex.v1 import models_pb2
from tests.fixtures.published_graphs import write_published
from tests.fixtures.tiny_llama import write_tiny_llama
from tests.integration.worker_process import rest, worker

pytestmark = pytest.mark.asyncio(loop_scope="module")

_CATALOGUE = """
[[model]]
name = "published"
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text", "chat"]
context_length = 512
[model.onnx]
default_profile = "fp32"
[model.onnx.artefact]
format = "onnx"
sources = [{ folder = "hub" }]
[model.onnx.profiles.fp32]
[model.onnx.profiles.q4_mixed]
[model.onnx.profiles.fp16]

[[model]]
name = "in-place"
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text", "chat"]
context_length = 512
[model.onnx.artefact]
file = "tiny.gguf"
format = "gguf"
sources = [{ file = "tiny.gguf" }]
[model.onnx.profiles.fp32]
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalogue")
    gguf = write_tiny_llama(folder / "tiny.gguf")
    (folder / "hub").mkdir()
    for variant in ("_quantized", "_q4", ""):
        write_published(folder / "hub", gguf, variant=variant)
    file = folder / "models.toml"
    file.write_text(_CATALOGUE)
    return file


async def answer(started, model, **options):
    """Text and receipt."""
    events = await rest(started.generate(model, **options))
    return "".join(event.delta.text for event in events if event.HasField("delta")), events[-1].receipt


async def test_a_folder_answers_as_the_in_place_graph_does_or_says_what_it_lacks(catalogue, tmp_path):
    async with worker(tmp_path, tmp_path / "home", catalogue, "--model", "in-place") as started:
        await started.until(lambda states: states["in-place/fp32"].state == models_pb2.MODEL_STATE_READY)
        expected, _ = await answer(started, "in-place", max_tokens=24)
        found = await asyncio.gather(*(answer(started, "published", max_tokens=24) for _ in range(5)))
        assert [text for text, _ in found] == [expected] * 5
        text, receipt = await answer(started, "published/q4_mixed", max_tokens=8)
        assert text
        assert (receipt.model, receipt.usage.completion_tokens) == ("published", 8)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answer(started, "published/fp16")
        assert "no decoder_model_merged for precision 'fp16'" in refused.value.details()
