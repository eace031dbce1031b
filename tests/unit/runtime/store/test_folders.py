"""Folders of files as sources: on this machine and at a hub, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from diplex.errors import DigestMismatch, InsufficientStorage, SourceUnavailable, UnsupportedModel
from tests.unit.runtime.store.arrangement import COMMIT, FILES, FolderConverter, folder_hub, leftovers
from tests.unit.runtime.store.arrangement import folder_entry as entry_of
from workers.runtime.catalogue import DiskFolder, HubFolder, SourceFile
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store

HUB = HubFolder("owner/tiny", COMMIT)
LISTED = tuple(SourceFile(name) for name in FILES)
EXACT = tuple(
    SourceFile(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
)
WEIGHTS = f"/owner/tiny/resolve/{COMMIT}/model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "checkpoint"
    place.mkdir()
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    return place


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def held(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir() if each.name != "manifest.json"}


class TestOnDisk:
    def test_its_files_are_taken_over(self, store, folder):
        (folder / "README.md").write_text("no part of the model")
        artefact = store.ensure(entry_of(DiskFolder(folder)), "onnx", None, FolderConverter())
        assert artefact.manifest.source.location == f"folder:{folder}"
        assert artefact.manifest.source.size == sum(map(len, FILES.values()))
        assert held(store.source(entry_of(DiskFolder(folder)), "onnx")) == FILES
        assert not leftovers(store.home)

    def test_the_second_time_nothing_is_done(self, store, folder):
        converter, reports = FolderConverter(), []
        first = store.ensure(entry_of(DiskFolder(folder)), "onnx", None, converter)
        again = store.ensure(entry_of(DiskFolder(folder)), "onnx", None, converter, reports.append)
        assert (again, converter.seen, reports) == (first, ["int8"], [])

    def test_a_file_that_changed_makes_it_again(self, store, folder):
        entry = entry_of(DiskFolder(folder))
        first = store.ensure(entry, "onnx", None, FolderConverter())
        (folder / "config.json").unlink()
        (folder / "config.json").write_text('{"model_type": "other"}')
        assert store.find(entry, "onnx") is None
        second = store.ensure(entry, "onnx", None, FolderConverter())
        assert second.manifest.source.sha256 != first.manifest.source.sha256
        assert held(store.source(entry, "onnx"))["config.json"] == b'{"model_type": "other"}'

    def test_a_linked_file_that_is_written_to_is_taken_over_again(self, store, folder):
        entry = entry_of(DiskFolder(folder))
        place = store.source(entry, "onnx")
        assert (place / "model.safetensors").samefile(folder / "model.safetensors")
        (folder / "model.safetensors").write_bytes(b"other weights")
        assert store.ensure(entry, "onnx", None, FolderConverter()).manifest.source.size < 1000

    def test_what_was_made_outlives_its_folder(self, store, folder):
        entry = entry_of(DiskFolder(folder))
        made = store.ensure(entry, "onnx", None, FolderConverter())
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        assert store.find(entry, "onnx") == made

    def test_links_are_followed(self, store, folder, tmp_path):
        links = tmp_path / "links"
        links.mkdir()
        for name in FILES:
            (links / name).symlink_to(os.path.relpath(folder / name, links))
        assert held(store.source(entry_of(DiskFolder(links)), "onnx")) == FILES

    def test_other_bytes_than_the_catalogue_names(self, store, folder):
        (folder / "config.json").write_text("{}")
        with pytest.raises(DigestMismatch, match=r"sha256 of config\.json is"):
            store.source(entry_of(DiskFolder(folder), files=EXACT), "onnx")
        assert not leftovers(store.home)

    def test_the_next_source_delivers(self, store, folder, tmp_path):
        entry = entry_of(DiskFolder(tmp_path / "gone"), DiskFolder(folder), files=EXACT)
        assert held(store.source(entry, "onnx")) == FILES

    def test_what_is_missing_is_named(self, store, folder, tmp_path):
        with pytest.raises(SourceUnavailable, match="no such folder"):
            store.source(entry_of(DiskFolder(tmp_path / "gone")), "onnx")
        with pytest.raises(SourceUnavailable, match=r"lacks absent\.json"):
            store.source(entry_of(DiskFolder(folder), files=(SourceFile("absent.json"),)), "onnx")
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        with pytest.raises(UnsupportedModel, match="pickles"):
            store.source(entry_of(DiskFolder(folder)), "onnx")

    def test_subfolders(self, store, folder):
        (folder / "onnx").mkdir()
        (folder / "onnx" / "model.onnx").write_bytes(b"graph")
        place = store.source(entry_of(DiskFolder(folder), kind="onnx"), "onnx")
        assert (place / "onnx" / "model.onnx").read_bytes() == b"graph"
        assert not (place / "model.safetensors").exists()


class TestHub:
    def test_a_pinned_repository(self, store, hub):
        server, reports = hub(folder_hub()), []
        artefact = store.ensure(entry_of(HUB), "onnx", None, FolderConverter(), reports.append)
        assert artefact.manifest.source.location == f"hf:owner/tiny@{COMMIT}"
        assert held(store.source(entry_of(HUB), "onnx")) == FILES
        downloads = [report for report in reports if report.phase is Phase.DOWNLOAD]
        assert downloads[-1].done == downloads[-1].total == sum(map(len, FILES.values()))
        assert [each.done for each in downloads] == sorted(each.done for each in downloads)
        assert len(server.gets(WEIGHTS)) == 1
        assert not leftovers(store.home)

    def test_it_is_found_without_the_hub(self, store, hub):
        server = hub(folder_hub())
        made = store.ensure(entry_of(HUB), "onnx", None, FolderConverter())
        asked = len(server.requests)
        assert store.ensure(entry_of(HUB), "onnx", None, FolderConverter()) == made
        assert store.source(entry_of(HUB), "onnx").is_dir()
        assert len(server.requests) == asked

    def test_files_by_name_need_no_listing(self, store, hub):
        server = hub(folder_hub(listed=False))
        assert held(store.source(entry_of(HUB, files=LISTED), "onnx")) == FILES
        assert not any("/api/" in path for _, path, _ in server.requests)

    def test_the_digests_decide(self, store, hub):
        content = folder_hub()
        content.files[WEIGHTS] = content.files[WEIGHTS][::-1]
        hub(content)
        source = HubFolder("owner/tiny", COMMIT, unverified=True)
        with pytest.raises(DigestMismatch, match=r"sha256 of model\.safetensors is"):
            store.source(entry_of(source, files=EXACT), "onnx")
        assert not leftovers(store.home)

    def test_the_hubs_own_digests_are_checked(self, store, hub):
        content = folder_hub()
        content.files[WEIGHTS] = content.files[WEIGHTS][::-1]
        hub(content)
        with pytest.raises(DigestMismatch, match=r"sha256 of model\.safetensors is"):
            store.source(entry_of(HUB), "onnx")

    def test_the_next_run_goes_on_where_the_last_one_stopped(self, store, hub):
        content = folder_hub()
        content.break_after = [len(FILES["config.json"]), 100_000, 0, 0, 0]
        server = hub(content)
        with pytest.raises(SourceUnavailable, match=f"hf:owner/tiny@{COMMIT}: "):
            store.source(entry_of(HUB), "onnx")
        reports: list[Progress] = []
        assert held(store.source(entry_of(HUB), "onnx", reports.append)) == FILES
        assert server.gets(WEIGHTS)[-1] == "bytes=100000-"
        assert server.gets(WEIGHTS.replace("model.safetensors", "config.json")) == [None]
        assert not leftovers(store.home)

    def test_a_repository_without_a_model(self, store, hub):
        content = folder_hub({"config.json": b"{}", "pytorch_model.bin": b"pickle"})
        hub(content)
        with pytest.raises(UnsupportedModel, match=r"owner/tiny can't be used: its weights are pickles"):
            store.source(entry_of(HUB), "onnx")

    def test_room_is_asked_for_before_the_download(self, disk, hub):
        files = {"config.json": b"{}", "model.safetensors": bytes(2_000_000)}
        server = hub(folder_hub(files))
        with disk("1m") as place, pytest.raises(InsufficientStorage, match=r"2\.0 MB are needed"):
            Store(place / "home").source(entry_of(HUB), "onnx")
        assert not [path for method, path, _ in server.requests if method == "GET" and "resolve" in path]


def test_one_profile_more_takes_nothing_over_again(store, folder):
    entry = entry_of(DiskFolder(folder))
    store.ensure(entry, "onnx", "int8", FolderConverter())
    before = store.source(entry, "onnx").stat().st_mtime_ns
    store.ensure(entry, "onnx", "fp32", FolderConverter())
    assert store.source(entry, "onnx").stat().st_mtime_ns == before


def test_a_damaged_copy_is_had_again(store, hub):
    hub(folder_hub())
    place = store.source(entry_of(HUB), "onnx")
    (place / "config.json").unlink()
    assert held(store.source(entry_of(HUB), "onnx")) == FILES
    manifest = json.loads((place / "manifest.json").read_text())
    assert {record["name"] for record in manifest["files"]} == set(FILES)
