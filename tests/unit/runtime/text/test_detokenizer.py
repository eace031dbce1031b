import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.runtime.text import vocabularies
from workers.runtime.text.detokenizer import Detokenizer
from workers.runtime.text.tokenizer import BYTE_OF, Decoding

HARD = [
    "👩‍👩‍👧‍👦",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "日本語テキスト",
    "e\u0301 a\u0328\u0301",
    "\u200d\u200b\ufeff",
    "�",
    "𐍈𐌰𐌿",
    "नमस्ते",
    "a\x00b",
]


def pieces_of(tokenizer, ids, cuts):
    detokenizer = Detokenizer(tokenizer)
    edges = [0, *sorted({cut % (len(ids) + 1) for cut in cuts} - {0}), len(ids)]
    return [*(detokenizer.push(ids[start:end]) for start, end in pairwise(edges)), detokenizer.flush()]


@pytest.mark.parametrize("kind", vocabularies.ALL, ids=lambda kind: kind.__name__)
@settings(deadline=None)  # the machine may be busy
@given(data=st.data())
def test_pieces_join_to_the_whole(kind, data):
    tokenizer = kind()
    token_ids = st.integers(0, tokenizer.vocab_size + 2)  # ids the vocabulary lacks decode to nothing
    ids = data.draw(st.lists(token_ids, max_size=40))
    cuts = data.draw(st.one_of(st.just(range(len(ids))), st.lists(st.integers(0, 40), max_size=8)))
    assert "".join(pieces_of(tokenizer, ids, cuts)) == tokenizer.decode(ids)


@settings(deadline=None)  # the machine may be busy
@given(
    st.lists(
        st.sampled_from([b"\xe6", b"\x97", b"\xa5", b"\xf0", b"\x9f", b"\x91", b"a", b"\xc0", b"\xed\xa0"])
    )
)
def test_fragments_of_bytes_join_to_the_whole(fragments):
    tokenizer = vocabularies.byte_fallback()
    ids = [tokenizer.id_of(f"<0x{byte:02X}>") for fragment in fragments for byte in fragment]
    assert "".join(pieces_of(tokenizer, ids, range(len(ids)))) == tokenizer.decode(ids)
    assert b"".join(fragments).decode(errors="replace") == "".join(byte_pieces(b"".join(fragments)))


def byte_pieces(content):
    """The pieces of byte-level tokens of one byte each."""
    tokenizer = vocabularies.byte_level()
    by_byte = byte_tokens(tokenizer)
    return pieces_of(tokenizer, [by_byte[byte] for byte in content], range(len(content)))


def byte_tokens(tokenizer):
    return {byte: tokenizer.id_of(character) for character, byte in BYTE_OF.items()}


@settings(deadline=None)  # the machine may be busy
@given(st.one_of(st.sampled_from(HARD), st.text()))
def test_text_comes_back_and_never_in_halves(text):
    pieces = byte_pieces(text.encode(errors="replace"))
    whole = text.encode(errors="replace").decode()
    assert "".join(pieces) == whole
    assert pieces == [piece for piece in pieces if "�" not in piece or "�" in whole]


def test_a_character_is_held_until_it_is_whole():
    assert byte_pieces("é👍".encode()) == ["", "é", "", "", "", "👍", ""]


def test_invalid_bytes_are_replaced_once_certain():
    assert byte_pieces(b"\xe6\x97a\xffb") == ["", "", "�a", "�", "b", ""]
    assert byte_pieces(b"\xf0\x9f") == ["", "", "�"]


def test_special_tokens_are_skipped_even_inside_a_character():
    tokenizer = vocabularies.byte_level()
    by_byte = byte_tokens(tokenizer)
    ids = [by_byte[0xC3], tokenizer.id_of("<|im_end|>"), by_byte[0xA9]]
    assert pieces_of(tokenizer, ids, range(3)) == ["", "", "é", ""]


def test_a_run_of_fallback_bytes_waits_for_its_end():
    tokenizer = vocabularies.byte_fallback()
    run = [tokenizer.id_of(token) for token in ("<0xF0>", "<0x9F>", "<0x91>", "<0x8D>", "a")]
    assert pieces_of(tokenizer, run, range(5)) == ["", "", "", "", "👍a", ""]


@pytest.mark.parametrize("kind", [vocabularies.byte_level, vocabularies.byte_fallback])
@pytest.mark.parametrize("token", ["a", None], ids=["text", "garbage"])
def test_cost_grows_linearly(kind, token):
    tokenizer = kind()
    token = token or ("ÿ" if tokenizer.decoding is Decoding.BYTES else "<0xFF>")
    token_id = tokenizer.id_of(token)
    detokenizer = Detokenizer(tokenizer)
    start = time.perf_counter()
    for _ in range(20_000):
        detokenizer.push((token_id,))
    detokenizer.flush()
    assert time.perf_counter() - start < 5  # 0.2 s if linear; 20 s and more if not


def test_the_kinds_are_told_apart():
    assert [kind().decoding for kind in vocabularies.ALL] == [
        Decoding.BYTES,
        Decoding.FALLBACK,
        Decoding.TEXT,
        Decoding.TEXT,
        Decoding.TEXT,
    ]
