"""Bundles: what one store has prepared serves another one that reaches no source."""

from __future__ import annotations

import io
import tarfile

import pytest

from diplex.errors import DigestMismatch, InvalidRequest
from tests.unit.runtime.store.arrangement import CONTENT, Converter, entry_of, leftovers
from workers.runtime.catalogue import DiskSource
from workers.runtime.store import Store
from workers.runtime.store.bundle import pack, unpack


@pytest.fixture
def entry(tmp_path):
    weights = tmp_path / "weights.gguf"
    weights.write_bytes(CONTENT)
    return entry_of(DiskSource(weights))


@pytest.fixture
def bundle(tmp_path, entry):
    store = Store(tmp_path / "here")
    store.ensure(entry, "onnx", "int8", Converter())
    (store.home / "adopted" / "onnx").mkdir(parents=True)
    (store.home / "adopted" / "onnx" / "hf-a--b.json").write_text("{}")
    (store.home / "prepared" / "Tiny" / ".onnx-fp32.new").mkdir()
    stream = io.BytesIO()
    packed = [f"{it.model}/{it.profile}" for it in pack(store.home, stream)]
    assert packed == ["Tiny/int8"]
    return stream.getvalue()


def test_the_other_store_finds_the_same_and_converts_nothing(tmp_path, entry, bundle):
    there = Store(tmp_path / "there")
    (manifest,) = unpack(there.home, io.BytesIO(bundle))
    converter = Converter()
    artefact = there.ensure(entry, "onnx", "int8", converter)
    assert artefact.digest == manifest.digest
    assert converter.seen == []
    there.verify(artefact)
    assert (there.home / "adopted" / "onnx" / "hf-a--b.json").read_text() == "{}"
    assert not leftovers(there.home)
    assert not list(there.home.glob("unpacking-*"))


def test_taking_it_in_twice_changes_nothing(tmp_path, bundle):
    first, second = (list(unpack(tmp_path / "there", io.BytesIO(bundle))) for _ in range(2))
    assert first == second


def test_a_file_with_other_bytes_is_not_taken(tmp_path, bundle):
    changed = bundle.replace(CONTENT[:40], bytes(40))
    assert changed != bundle
    with pytest.raises(DigestMismatch, match="Tiny/int8"):
        list(unpack(tmp_path / "there", io.BytesIO(changed)))
    assert not (tmp_path / "there" / "prepared").exists()


@pytest.mark.parametrize("stream", [b"", b"no tar at all" * 100])
def test_what_is_no_bundle(tmp_path, stream):
    with pytest.raises(InvalidRequest, match="no bundle"):
        list(unpack(tmp_path / "there", io.BytesIO(stream)))


def test_names_that_lead_elsewhere_are_refused(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../outside"))
    with pytest.raises(InvalidRequest, match="no bundle"):
        list(unpack(tmp_path / "there", io.BytesIO(stream.getvalue())))
    assert not (tmp_path / "outside").exists()
