"""The reference forward, on what can be said about it without another implementation."""

import numpy as np
import pytest

from diplex.errors import UnsupportedModel
from tests.fixtures.tiny_llama import write_tiny_llama
from workers.runtime.fidelity import reference
from workers.runtime.fidelity.reference import Reference

TOKENS = np.random.default_rng(3).integers(0, 294, 60).tolist()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return Reference(write_tiny_llama(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))


def whole(model, tokens):
    return np.concatenate(list(model.logits(tokens)))


def test_chunks_hold_what_was_asked_for(model):
    chunks = list(model.logits(TOKENS, chunk=25))
    assert [chunk.shape for chunk in chunks] == [(25, 294), (25, 294), (10, 294)]
    assert {chunk.dtype for chunk in chunks} == {np.dtype(np.float32)}
    assert np.allclose(np.concatenate(chunks), whole(model, TOKENS), atol=1e-4)


def test_no_token_sees_the_ones_behind_it(model):
    changed = [*TOKENS[:30], *reversed(TOKENS[30:])]
    assert np.allclose(whole(model, TOKENS)[:30], whole(model, changed)[:30], atol=1e-4)
    assert not np.allclose(whole(model, TOKENS)[31], whole(model, changed)[31], atol=1e-2)


def test_attention_in_parts_is_attention(model, monkeypatch):
    expected = whole(model, TOKENS)
    monkeypatch.setattr(reference, "CHUNK", 16)
    assert np.allclose(whole(model, TOKENS), expected, atol=1e-4)


def test_positions_matter(model):
    first, second = whole(model, [5, 6, 7, 8]), whole(model, [6, 5, 7, 8])
    assert not np.allclose(first[-1], second[-1], atol=1e-2)


@pytest.mark.parametrize(
    "settings", [{"general.architecture": "gemma3"}, {"llama.rope.scaling.type": "yarn"}]
)
def test_other_models_are_refused(tmp_path, settings):
    with pytest.raises(UnsupportedModel):
        Reference(write_tiny_llama(tmp_path / "tiny.gguf", settings=settings))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "tiny.gguf").write_bytes(b"something else")
    with pytest.raises(UnsupportedModel, match="no GGUF file"):
        Reference(tmp_path / "tiny.gguf")
