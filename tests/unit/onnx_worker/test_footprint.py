"""What predictions depend on; how near they come is measured where engines are started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_backend import fake_description
from workers.onnx_worker.footprint import converting, predict
from workers.onnx_worker.published.backend import RUN_BYTES
from workers.onnx_worker.published.graphs import Graphs
from workers.runtime.artefact import EYES_WEIGHTS_FILE, MODEL_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from workers.runtime.catalogue import DiskSource, SourceArtefact
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.vision import VisionDescription

MIB = 2**20
EMBEDDING = 1000 * 64
"""Elements."""


def artefact(folder, *, graph=b"", stages=0, weights=3 * MIB):
    (folder / WEIGHTS_FILE).write_bytes(bytes(weights))
    (folder / TOKENIZER_FILE).write_bytes(b"{}")
    (folder / MODEL_FILE).write_bytes(graph)
    for number in range(stages):
        (folder / f"stage-{number:02}.onnx").write_bytes(b"")
    return folder


def predicted(folder, precision="int8", **options):
    description = fake_description(
        precision=precision, vocab_size=1000, hidden_size=64, head_dim=16, context_length=100
    )
    return predict(folder, description, EngineConfig(folder, **options))


def test_the_embedding_counts_by_how_it_is_used(tmp_path):
    artefact(tmp_path, graph=b"... lm_head.weight ...")
    separate, int8 = predicted(tmp_path, "fp32").loaded, predicted(tmp_path, "int8").loaded
    artefact(tmp_path, graph=b"...")
    tied, blocks = predicted(tmp_path, "fp32").loaded, predicted(tmp_path, "int8").loaded
    assert tied - separate == 2 * 4 * EMBEDDING
    assert int8 - separate == 3 * EMBEDDING
    assert blocks - int8 == 2 * EMBEDDING
    (tmp_path / "stage-03-packed.onnx").write_bytes(b"")
    assert predicted(tmp_path, "int8").loaded - blocks == EMBEDDING


def test_slots_and_weights_add_up(tmp_path):
    artefact(tmp_path)
    few, many = predicted(tmp_path, slots=1).loaded, predicted(tmp_path, slots=11).loaded
    assert many - few == 10 * 1000 * 4
    artefact(tmp_path, weights=5 * MIB)
    assert predicted(tmp_path, slots=1).loaded - few == 2 * MIB


def test_every_session_keeps_scores_of_its_own(tmp_path):
    scores = 100 * 100 * 4 * 4
    assert predicted(artefact(tmp_path)).working == scores
    assert predicted(artefact(tmp_path, stages=3)).working == 4 * scores + 3 * MIB
    assert predicted(tmp_path, max_length=50).working == 4 * 50 * 50 * 4 * 4 + 3 * MIB
    small = predicted(tmp_path, prefill_chunk=10, shared_prefill_chunk=5)
    assert small.working == 4 * 10 * 100 * 4 * 4 + 3 * MIB


@pytest.mark.parametrize(("profile", "factor"), [("int8", 13), ("fp32", 5), ("another", 13)])
def test_converting_takes_more_the_larger_the_source_is(profile, factor):
    def of(size):
        source = SourceArtefact("f", "gguf", (DiskSource(Path("f")),), size=size)
        return converting(source, profile)

    assert of(10) - of(None) == 10 * factor


def test_published_graphs_count_with_the_weights_beside_them(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(bytes(MIB))
    (tmp_path / TOKENIZER_FILE).write_bytes(b"{}")
    Graphs(decoder="onnx/model.onnx").save(tmp_path)
    alone = predicted(tmp_path)
    (tmp_path / "onnx" / "model.onnx_data").write_bytes(bytes(2 * MIB))
    assert predicted(tmp_path).loaded - alone.loaded == 2 * MIB
    # Keys and values of a run are there more than once, but a run is never larger than a limit.
    assert predicted(tmp_path, slots=100).working == alone.working > 3 * RUN_BYTES


def test_eyes_count_with_their_weights_and_a_tile(tmp_path):
    artefact(tmp_path, graph=b"... lm_head.weight ...")
    blind = predicted(tmp_path)
    (tmp_path / EYES_WEIGHTS_FILE).write_bytes(bytes(3 * MIB))
    vision = VisionDescription(
        image_token_id=9, tile_size=512, tile_rows=64, longest_edge=2048, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    description = fake_description(
        precision="int8", vocab_size=1000, hidden_size=64, head_dim=16, context_length=100, vision=vision
    )
    seeing = predict(tmp_path, description, EngineConfig(tmp_path))
    assert 3 * MIB < seeing.loaded - blind.loaded < 10 * MIB
    assert seeing.working - blind.working == 420 * 512**2
