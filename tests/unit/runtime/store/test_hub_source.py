"""Files of a model hub, by the real library against a hub on a loopback port."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from diplex.errors import DigestMismatch, SourceUnavailable
from tests.unit.runtime.store.arrangement import (
    COMMIT,
    CONTENT,
    HUB_PATH,
    SHA256,
    Converter,
    entry_of,
    hub_of,
    leftovers,
)
from workers.runtime.catalogue import HubSource
from workers.runtime.progress import Phase, Progress
from workers.runtime.store import Store

PINNED = HubSource("owner/tiny", "tiny.gguf", COMMIT)
NEWEST = HubSource("owner/tiny", "tiny.gguf", unverified=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_a_pinned_file(store, hub):
    server = hub(hub_of())
    reports: list[Progress] = []
    artefact = store.ensure(entry_of(PINNED), "onnx", None, Converter(), reports.append)
    assert artefact.manifest.source.location == f"hf:owner/tiny@{COMMIT}/tiny.gguf"
    downloads = [report for report in reports if report.phase is Phase.DOWNLOAD]
    assert downloads[-1].done == downloads[-1].total == len(CONTENT)
    assert server.gets(HUB_PATH) == [None]
    assert not leftovers(store.home)


def test_an_unverified_source_is_taken_at_the_commit_that_was_found(store, hub):
    server = hub(hub_of(revision="main"))
    artefact = store.ensure(entry_of(NEWEST), "onnx", None, Converter())
    assert artefact.manifest.source.location == f"hf:owner/tiny@{COMMIT}/tiny.gguf"
    assert server.gets(HUB_PATH) == [None]


def test_the_digest_decides_over_an_unverified_source(store, hub):
    hub(hub_of(CONTENT[::-1], "main"))
    with pytest.raises(DigestMismatch, match=r"hf:owner/tiny/tiny\.gguf: sha256 is"):
        store.ensure(entry_of(NEWEST), "onnx", None, Converter())
    assert not leftovers(store.home)


def test_a_file_of_another_length_is_not_even_downloaded(store, hub):
    server = hub(hub_of(CONTENT + b"more"))
    with pytest.raises(DigestMismatch, match=f"has {len(CONTENT) + 4} bytes and not {len(CONTENT)}"):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())
    assert server.gets(HUB_PATH) == []


def test_a_broken_connection_is_taken_up_again(store, hub):
    content = hub_of()
    content.break_after = [100_000, 50_000]
    server = hub(content)
    store.ensure(entry_of(PINNED), "onnx", None, Converter())
    assert server.gets(HUB_PATH) == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_run_goes_on_where_the_last_one_stopped(store, hub):
    content = hub_of()
    content.break_after = [100_000, 0, 0, 0]
    server = hub(content)
    with pytest.raises(SourceUnavailable, match=f"hf:owner/tiny@{COMMIT}/tiny.gguf: "):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())
    reports: list[Progress] = []
    store.ensure(entry_of(PINNED), "onnx", None, Converter(), reports.append)
    assert server.gets(HUB_PATH)[-1] == "bytes=100000-"
    assert reports[0].done == 100_000


def test_a_hub_without_ranges_starts_again(store, hub):
    content = hub_of()
    content.break_after, content.ranges = [100_000], False
    server = hub(content)
    store.ensure(entry_of(PINNED), "onnx", None, Converter())
    assert len(server.gets(HUB_PATH)) == 2
    assert store.source(entry_of(PINNED), "onnx").read_bytes() == CONTENT


def test_what_was_begun_from_another_file_is_not_gone_on_with(store, hub):
    content = hub_of(etag="old")
    content.break_after = [100_000, 0, 0, 0]
    server = hub(content)
    with pytest.raises(SourceUnavailable):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())
    server.headers["ETag"] = f'"{SHA256}"'
    store.ensure(entry_of(PINNED), "onnx", None, Converter())
    assert server.gets(HUB_PATH)[-1] is None


def test_a_file_that_the_hub_library_has_already_is_linked(store, hub, tmp_path):
    server = hub(hub_of())
    snapshot = tmp_path / "hf" / "hub" / "models--owner--tiny" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "tiny.gguf").write_bytes(CONTENT)
    (snapshot.parents[1] / "refs").mkdir()
    assert store.source(entry_of(PINNED), "onnx").samefile(snapshot / "tiny.gguf")
    assert server.requests == []


def test_the_hubs_refusal_is_told(store, hub):
    content = hub_of()
    content.files.clear()
    hub(content)
    with pytest.raises(SourceUnavailable, match=r"hf:owner/tiny@c+/tiny\.gguf: .*404"):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())


def test_an_absent_hub_is_told(store, hub, monkeypatch):
    address = hub(hub_of()).address
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(address, "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(SourceUnavailable, match=r"hf:owner/tiny@c+/tiny\.gguf: "):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())


@pytest.mark.parametrize("status", [401, 403])
def test_what_strangers_may_not_have_names_the_token_that_is_missing(store, hub, status, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    content = hub_of()
    content.refusal = status
    hub(content)
    with pytest.raises(SourceUnavailable, match=rf"refuses it to strangers \({status}\).*set HF_TOKEN"):
        store.ensure(entry_of(PINNED), "onnx", None, Converter())


def test_a_token_that_is_not_enough_is_told_from_none(store, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody")
    content = hub_of()
    content.refusal = 403
    hub(content)
    with pytest.raises(SourceUnavailable, match="account of the token") as raised:
        store.ensure(entry_of(PINNED), "onnx", None, Converter())
    assert "hf_of_somebody" not in str(raised.value)
