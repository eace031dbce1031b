"""A preparing process agrees to the terms that its worker agrees to, and to no others."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from diplex.errors import LicenceNotAccepted
from tests.unit.runtime.store.arrangement import CONTENT, entry_of
from workers.runtime.catalogue import DiskSource, Terms
from workers.runtime.progress import silent
from workers.runtime.supervisor.preparation import Order, prepared_by

_PREPARING = (
    "from tests.unit.runtime.store.arrangement import Converter;"
    "from workers.runtime.supervisor.preparing_process import main;"
    "main('onnx', Converter())"
)
TERMS = Terms("tiny-terms", "Tiny Terms of Use", "https://example.org/terms", "You may.")


def prepared(tmp_path, accepted):
    (tmp_path / "tiny.gguf").write_bytes(CONTENT)
    entry = replace(entry_of(DiskSource(tmp_path / "tiny.gguf")), terms=TERMS)
    order = Order(tmp_path / "home", entry, "int8", frozenset(accepted))
    return prepared_by((sys.executable, "-c", _PREPARING), order, silent)


async def test_terms_that_the_worker_agrees_to(tmp_path):
    artefact = await prepared(tmp_path, ["tiny-terms"])
    assert (artefact.folder / "model.onnx").exists()


async def test_terms_that_nobody_has_agreed_to(tmp_path):
    with pytest.raises(LicenceNotAccepted, match="--accept-licence tiny-terms"):
        await prepared(tmp_path, ["other-terms"])
