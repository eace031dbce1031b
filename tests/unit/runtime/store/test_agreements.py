"""Models with terms are downloaded once somebody has agreed to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diplex.errors import LicenceNotAccepted
from tests.unit.runtime.store.arrangement import CONTENT, Converter, entry_of
from workers.runtime.catalogue import DiskSource, Terms
from workers.runtime.store import Store

TERMS = Terms("tiny-terms", "Tiny Terms of Use", "https://example.org/terms", "You may.")


@pytest.fixture
def entry(tmp_path):
    file = tmp_path / "tiny.gguf"
    file.write_bytes(CONTENT)
    return replace(entry_of(DiskSource(file)), terms=TERMS)


def prepare(store, entry):
    return store.ensure(entry, "onnx", None, Converter())


def test_nothing_is_fetched_before(tmp_path, entry):
    store = Store(tmp_path / "home")
    with pytest.raises(LicenceNotAccepted) as caught:
        prepare(store, entry)
    for words in (
        "Tiny Terms of Use",
        "https://example.org/terms",
        "diplex pull Tiny --accept-licence tiny-terms",
    ):
        assert words in caught.value.message
    assert "DIPLEX_ACCEPT_LICENCE=tiny-terms" in caught.value.message
    assert store.open_terms(entry, "onnx") == TERMS
    assert not (store.home / "blobs").exists()
    with pytest.raises(LicenceNotAccepted):
        store.source(entry, "onnx")


def test_an_agreement_is_remembered(tmp_path, entry):
    Store(tmp_path / "home").agree(TERMS)
    store = Store(tmp_path / "home")
    assert store.open_terms(entry, "onnx") is None
    prepare(store, entry)


@pytest.mark.parametrize("name", ["tiny-terms", "Tiny-Terms"])
def test_a_process_may_bring_it_along(tmp_path, entry, name):
    prepare(Store(tmp_path / "home", [name]), entry)
    assert (tmp_path / "home" / "agreements" / "tiny-terms.json").exists()


def test_other_names_are_no_agreement(tmp_path, entry):
    with pytest.raises(LicenceNotAccepted):
        prepare(Store(tmp_path / "home", ["other-terms"]), entry)


def test_other_words_have_to_be_agreed_to_again(tmp_path, entry):
    store = Store(tmp_path / "home")
    store.agree(replace(TERMS, text="You may not."))
    assert store.open_terms(entry, "onnx") == TERMS


def test_a_damaged_record_is_no_agreement(tmp_path, entry):
    store = Store(tmp_path / "home")
    store.agree(TERMS)
    (tmp_path / "home" / "agreements" / "tiny-terms.json").write_text("[")
    assert store.open_terms(entry, "onnx") == TERMS


def test_what_is_there_already_needs_none(tmp_path, entry):
    store = Store(tmp_path / "home")
    prepare(store, replace(entry, terms=None))
    assert store.open_terms(entry, "onnx") is None
    prepare(store, entry)
