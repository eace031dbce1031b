"""Matchers and masks."""

import json

import numpy as np
import pytest

from diplex.errors import InternalError, InvalidRequest
from tests.fake_backend import VOCABULARY, byte_tokenizer
from workers.runtime.structured import GrammarCompiler, JsonFormat, JsonSchema, Regex, apply_masks, mask_words

TOKENIZER = byte_tokenizer()
ENDS = (0, 2)


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    return GrammarCompiler(TOKENIZER, VOCABULARY, ENDS)


def allowed(matcher) -> list[int]:
    mask = np.zeros(mask_words(VOCABULARY), np.int32)
    matcher.fill(mask)
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), bitorder="little")).tolist()


def test_the_mask_is_what_may_be_accepted(compiler):
    matcher = compiler.compile(Regex("a[bc]*")).matcher()
    a, b, c = (TOKENIZER.id_of(letter) for letter in "abc")
    assert allowed(matcher) == [a]
    assert not matcher.finished
    matcher.accept(a)
    assert matcher.finished
    assert not matcher.stopped
    assert set(allowed(matcher)) >= {*ENDS, b, c}
    with pytest.raises(InternalError):
        matcher.accept(a)
    matcher.accept(c)
    matcher.accept(ENDS[0])
    assert matcher.stopped


def test_what_is_forced(compiler):
    word = compiler.compile(Regex("hello( world)?")).matcher()
    forced = word.forced()
    assert TOKENIZER.decode(forced) == "hello"
    for token in forced:
        word.accept(token)
    assert word.forced() == ()
    for token in TOKENIZER.encode(" world"):
        word.accept(token)
    assert word.stopped
    assert word.forced() == ()


def test_aside(compiler):
    matcher = compiler.compile(JsonFormat()).matcher()
    tokens = TOKENIZER.encode('{"a":[1,2]')
    assert matcher.allowed([*tokens, TOKENIZER.id_of("]")]) == len(tokens)
    for token in tokens:
        matcher.accept(token)
    here = allowed(matcher)
    other = matcher.clone()
    other.accept(TOKENIZER.id_of("}"))
    assert other.finished
    assert allowed(matcher) == here


def test_dead_ends_are_the_callers(compiler):
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string", "pattern": "^\x01$"}},
        "required": ["a"],
    }
    matcher = compiler.compile(JsonSchema(json.dumps(schema))).matcher()
    for token in TOKENIZER.encode('{"a":'):
        matcher.accept(token)
    with pytest.raises(InvalidRequest, match="can't go on"):  # noqa: PT012  how many steps is the library's
        for _ in range(50):
            matcher.accept(allowed(matcher)[0])


def test_masks_of_a_batch(compiler):
    generator = np.random.default_rng(1)
    logits = generator.standard_normal((4, VOCABULARY), np.float32)
    before = logits.copy()
    few = compiler.compile(Regex("a")).matcher()
    many = compiler.compile(Regex("(?s:.*)")).matcher()
    apply_masks(logits, [(0, few), (2, many)])
    assert np.flatnonzero(np.isfinite(logits[0])).tolist() == allowed(few)
    assert np.flatnonzero(np.isfinite(logits[2])).tolist() == allowed(many)
    kept = np.isfinite(logits)
    assert (logits[kept] == before[kept]).all()
    assert kept[[1, 3]].all()


@pytest.mark.parametrize("width", [VOCABULARY, 3000])
def test_dense_and_sparse_masks_agree(width):
    from workers.runtime.structured.masks import apply_mask  # noqa: PLC0415  beside its only use

    generator = np.random.default_rng(2)
    for share in (0, 0.01, 0.5, 1):
        bits = generator.random(mask_words(width) * 32) < share
        bits[width:] = False
        mask = np.packbits(bits, bitorder="little").view(np.int32)
        logits = np.arange(width, dtype=np.float32)
        apply_mask(logits, mask)
        assert (np.isfinite(logits) == bits[:width]).all()
        assert (logits[bits[:width]] == np.flatnonzero(bits[:width])).all()
