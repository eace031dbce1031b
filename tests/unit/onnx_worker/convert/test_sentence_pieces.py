"""Vocabularies with scores: the highest-scored union of neighbours first, bytes for what has no piece."""

from itertools import pairwise

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.tokenizer import adds_bos, build_tokenizer

BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
PIECES = ["▁t", "he", "▁the", "in", "▁th", "er", "th", "▁in", "▁▁", *"▁theinrsa", "é"]  # best score first
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
USER = ["\n", "\n\n", "<b>"]


def written(path, **keys):
    tokens = [*SPECIAL, *USER, *BYTES, *PIECES]
    kinds = [*[3, 3, 3, 2], *[4] * len(USER), *[6] * 256, *[1] * len(PIECES)]
    scores = [*[-1000.0] * 7, *[0.0] * 256, *(-float(place) for place in range(len(PIECES)))]
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores(keys.pop("scores", scores))
    for key, value in keys.items():
        writer.add_bool(f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(written(tmp_path_factory.mktemp("spm") / "v.gguf", add_space_prefix=False))


def by_scores(text):
    """SentencePiece's own procedure, the slow way: best union of neighbours, leftmost of equals."""
    symbols = list(text.replace(" ", "▁"))
    while True:
        unions = [(PIECES.index(a + b), i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in PIECES]
        if not unions:
            return symbols
        _, place = min(unions)
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=" theinrsaé", max_size=40))
def test_pieces_are_joined_by_their_scores(tokenizer, text):
    assert tokenizer.encode(text).tokens == by_scores(text)


@pytest.mark.parametrize("text", ["", " the  in", "日本語 🙂", "a\n\n\nb", "x\u0000y", "<b>bold", "\t"])
def test_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_what_has_no_piece_becomes_bytes(tokenizer):
    assert tokenizer.encode("日").tokens == ["<0xE6>", "<0x97>", "<0xA5>"]


def test_user_defined_tokens_are_found_first_and_the_longest_of_them(tokenizer):
    assert tokenizer.encode("a\n\n\nthe<b>").tokens == ["a", "\n\n", "\n", "t", "he", "<b>"]


def test_a_text_begins_with_a_space_unless_the_file_says_otherwise(tmp_path):
    tokenizer = build_tokenizer(written(tmp_path / "v.gguf"))
    assert tokenizer.encode("the").tokens == ["▁the"]
    assert tokenizer.decode(tokenizer.encode("the in").ids) == "the in"


def test_a_prompt_begins_with_bos_unless_the_file_says_otherwise(tmp_path):
    assert adds_bos(written(tmp_path / "v.gguf")) is True
    assert adds_bos(written(tmp_path / "w.gguf", add_bos_token=False)) is False


def test_scores_of_other_tokens_are_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="scores"):
        build_tokenizer(written(tmp_path / "v.gguf", scores=[0.0]))
