"""Models that no catalogue knows: from a hub on a loopback port, and from this machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from diplex.errors import ModelNotFound, SourceUnavailable, UnsupportedModel
from tests.fixtures.tiny_checkpoint import write_checkpoint
from tests.fixtures.tiny_eyes import write_tiny_eyes
from tests.fixtures.tiny_llama import write_tiny_llama
from tests.unit.runtime.store.arrangement import COMMIT, folder_hub
from workers.onnx_worker.kind import KIND
from workers.runtime.catalogue import Capability, Catalogue
from workers.runtime.command.models import Models, named
from workers.runtime.progress import silent

NAME = "hf:owner/tiny"


@pytest.fixture
def models(tmp_path) -> Models:
    return Models.open(KIND, tmp_path / "home", "", ())


@pytest.fixture
def checkpoint(tmp_path) -> dict[str, bytes]:
    folder = write_checkpoint(tmp_path / "source", "llama")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def gguf(tmp_path) -> bytes:
    return write_tiny_llama(tmp_path / "tiny.gguf").read_bytes()


def pulled(models: Models, name: str) -> Path:
    match = models.look_up(name, Console(quiet=True))
    return models.prepare(match.entry, match.profile, silent).folder


class TestHub:
    def test_a_repository_needs_no_catalogue(self, models, hub, checkpoint):
        server = hub(folder_hub(checkpoint | {"README.md": b"card", "pytorch_model.bin": b"pickle"}))
        entry = models.find(NAME).entry
        assert (entry.name, entry.architecture, entry.licence) == (NAME, "llama", "apache-2.0")
        assert entry.capabilities == {Capability.TEXT, Capability.CHAT}
        assert entry.context_length == 512
        weights = f"/owner/tiny/resolve/{COMMIT}/model.safetensors"
        assert server.gets(weights) == []  # looking at it takes settings only
        artefact = models.prepare(entry, None, silent)
        assert artefact.folder == models.store.home / "prepared" / "hf--owner--tiny" / "onnx-int8"
        assert artefact.manifest.source.location == f"hf:owner/tiny@{COMMIT}"
        assert not any("README" in path or "bin" in path for _, path, _ in server.requests)

    def test_it_is_remembered(self, models, hub, checkpoint):
        server = hub(folder_hub(checkpoint))
        pulled(models, NAME)
        asked = len(server.requests)
        entry = models.find(NAME).entry
        assert models.files.load().find(f"{NAME}/fp32").entry == entry
        assert named(models.find(f"{NAME}/fp32")) == f"{NAME}/fp32"
        assert len(server.requests) == asked

    def test_a_worker_that_runs_learns_of_it(self, models, hub, checkpoint):
        hub(folder_hub(checkpoint))
        models.files.load()
        assert models.files.changed() is None
        models.find(NAME)
        changed = models.files.changed()
        assert isinstance(changed, Catalogue)
        assert changed.find(NAME).entry.name == NAME

    def test_what_was_pulled_serves_without_the_hub(self, models, hub, checkpoint):
        server = hub(folder_hub(checkpoint))
        folder = pulled(models, NAME)
        server.files.clear()
        assert pulled(models, NAME) == folder

    def test_a_newer_commit_is_taken_by_the_next_pull(self, models, hub, checkpoint):
        server = hub(folder_hub(checkpoint))
        pulled(models, NAME)
        newer = "d" * 40
        for path, content in list(server.files.items()):
            server.files[path.replace(COMMIT, newer)] = content.replace(COMMIT.encode(), newer.encode())
        server.headers["X-Repo-Commit"] = newer
        pulled(models, NAME)
        (source,) = models.find(NAME).entry.backend("onnx").artefact.sources
        assert source.revision == newer

    @pytest.mark.parametrize("name", [NAME, f"{NAME}/tiny-Q8_0.gguf"])
    def test_gguf_files(self, models, hub, gguf, name):
        server = hub(folder_hub({"README.md": b"card", "tiny-Q8_0.gguf": gguf}))
        entry = models.find(name).entry
        assert (entry.name, entry.architecture, entry.context_length) == (name, "llama", 512)
        artefact = models.prepare(entry, "fp32", silent)
        assert artefact.manifest.source.location == f"hf:owner/tiny@{COMMIT}/tiny-Q8_0.gguf"
        assert len(server.gets(f"/owner/tiny/resolve/{COMMIT}/tiny-Q8_0.gguf")) == 1

    def test_of_several_files_one_must_be_named(self, models, hub, gguf):
        hub(folder_hub({"a-Q4.gguf": gguf, "a-Q8.gguf": gguf}))
        with pytest.raises(UnsupportedModel, match=r"name one:\n  hf:owner/tiny/a-Q4\.gguf\n"):
            models.find(NAME)
        with pytest.raises(UnsupportedModel, match=r"no file b\.gguf; its GGUF files: a-Q4\.gguf, a-Q8"):
            models.find(f"{NAME}/b.gguf")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"model_type": "mamba"}, "model_type 'mamba', which can't be converted; supported are"),
            ({"model_type": "x", "auto_map": {"a": "b"}}, "needs its publisher's code"),
        ],
    )
    def test_why_a_repository_can_not_be_served(self, models, hub, checkpoint, change, message):
        config = json.loads(checkpoint["config.json"]) | change
        hub(folder_hub(checkpoint | {"config.json": json.dumps(config).encode()}))
        with pytest.raises(UnsupportedModel, match=message):
            models.find(NAME)
        assert not models.adopter.records.folder.exists()

    def test_pickles_are_refused(self, models, hub, checkpoint):
        files = {name: content for name, content in checkpoint.items() if "safetensors" not in name}
        hub(folder_hub(files | {"pytorch_model.bin": b"pickle"}))
        with pytest.raises(UnsupportedModel, match=r"pickles \(pytorch_model\.bin\)"):
            models.find(NAME)

    def test_a_hub_that_does_not_know_it(self, models, hub):
        content = folder_hub()
        content.files.clear()
        hub(content)
        with pytest.raises(SourceUnavailable, match=r"hf:owner/tiny could not be looked at: .*404"):
            models.find(NAME)


class TestDisk:
    def test_a_folder(self, models, tmp_path):
        folder = write_checkpoint(tmp_path / "My Model", "qwen2")
        match = models.find(f"{folder}/fp32")
        assert named(match) == "local:My-Model/fp32"
        assert models.files.load().find(str(folder)).entry == match.entry
        assert models.prepare(match.entry, match.profile, silent).manifest.profile == "fp32"

    def test_a_folder_that_sees(self, models, tmp_path):
        (tmp_path / "seeing").mkdir()
        folder = write_tiny_eyes(tmp_path / "seeing")
        entry = models.find(str(folder)).entry
        assert (entry.architecture, Capability.IMAGES in entry.capabilities) == ("idefics3", True)
        assert models.prepare(entry, "q4_mixed", silent).manifest.profile == "q4_mixed"

    def test_a_file(self, models, tmp_path, gguf):
        entry = models.find(str(tmp_path / "tiny.gguf")).entry
        assert entry.name == "local:tiny"
        assert models.prepare(entry, "fp32", silent).manifest.source.location.startswith("file:")

    def test_two_of_one_name_are_told_apart(self, models, tmp_path):
        first = models.find(str(write_checkpoint(tmp_path / "a" / "model", "llama"))).entry
        second = models.find(str(write_checkpoint(tmp_path / "b" / "model", "qwen2"))).entry
        assert first.name == "local:model"
        assert second.name.startswith("local:model-")
        assert models.files.load().find(str(tmp_path / "a" / "model")).entry == first

    def test_a_folder_that_changed_is_looked_at_anew(self, models, tmp_path):
        folder = write_checkpoint(tmp_path / "model", "llama")
        models.find(str(folder))
        shutil.rmtree(folder)
        write_checkpoint(folder, "qwen2")
        assert models.find(str(folder)).entry.architecture == "qwen2"

    def test_what_is_not_there(self, models, tmp_path):
        with pytest.raises(SourceUnavailable, match="there is no model at"):
            models.find(str(tmp_path / "none.gguf"))
        with pytest.raises(ModelNotFound):
            models.find("none")
