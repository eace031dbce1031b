"""The tokenizer built from a GGUF file's metadata."""

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.fixtures.tiny_llama import SPECIAL_TOKENS, vocabulary, write_tiny_llama
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.tokenizer import RULES, adds_bos, build_tokenizer

HARD = [
    "",
    " ",
    "\n\n\t \r\n",
    "naïve café — “quotes” …",
    "e\u0301 is not \u00e9",
    "👩‍👩‍👧 🇩🇪 🙂🙂",
    "日本語とعربيﷺ",
    "\u0000\u001f\u200b\ufeff\u2028",
    "x² ½ ٣٤ 12345",
    "don't I'LL we've",
    "Ġ is a letter too, and so is Ċ",
    "  two  spaces   and more    ",
    "def f(x):\n\treturn {x: 'y'}\n",
]


@pytest.fixture(scope="module")
def tokenizer(tiny_gguf) -> Tokenizer:
    return build_tokenizer(GgufFile(tiny_gguf))


def words(tokenizer, text):
    return [text[start:end] for _, (start, end) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("text", HARD)
def test_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@settings(max_examples=200)
@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "qwen2"])
@pytest.mark.parametrize("text", HARD)
def test_every_rule_keeps_the_text(tmp_path, rule, text):
    path = write_tiny_llama(tmp_path / "tiny.gguf", settings={"tokenizer.ggml.pre": rule})
    tokenizer = build_tokenizer(GgufFile(path))
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("gpt-2", ["I", "'ll", " see", " 12345", " times", "\n ", " X", "!?", "\n"]),
        ("smollm", ["I", "'ll", " see", " ", "1", "2", "3", "4", "5", " times", "\n ", " X", "!?", "\n"]),
        ("llama-bpe", ["I", "'ll", " see", " ", "123", "45", " times", "\n", " ", " X", "!?\n"]),
        ("qwen2", ["I", "'ll", " see", " ", "1", "2", "3", "4", "5", " times", "\n", " ", " X", "!?\n"]),
    ],
)
def test_each_rule_cuts_its_own_words(tmp_path, rule, expected):
    path = write_tiny_llama(tmp_path / "tiny.gguf", settings={"tokenizer.ggml.pre": rule})
    tokenizer = build_tokenizer(GgufFile(path))
    assert words(tokenizer, "I'll see 12345 times\n  X!?\n") == expected


def test_qwen2_composes_text_first(tmp_path):
    path = write_tiny_llama(tmp_path / "tiny.gguf", settings={"tokenizer.ggml.pre": "qwen2"})
    tokenizer = build_tokenizer(GgufFile(path))
    assert tokenizer.encode("e\u0301").ids == tokenizer.encode("\u00e9").ids


def test_merges_are_applied(tokenizer):
    assert tokenizer.encode("the 🙂é").tokens == ["the", "Ġ", "ðŁĻĤ", "Ã©"]


def test_control_tokens_are_one_token_and_not_decoded(tokenizer):
    encoding = tokenizer.encode("<|im_start|>user\nx<|im_end|>")
    assert encoding.ids[0] == SPECIAL_TOKENS.index("<|im_start|>")
    assert encoding.ids[-1] == SPECIAL_TOKENS.index("<|im_end|>")
    assert tokenizer.decode(encoding.ids) == "user\nx"


def test_ids_are_those_of_the_file(tokenizer):
    tokens, _ = vocabulary()
    assert [tokenizer.id_to_token(number) for number in range(len(tokens))] == tokens
    assert tokenizer.get_vocab_size() == len(tokens)


def test_user_defined_tokens_are_found_and_decoded(tmp_path):
    tokens, merges = vocabulary()
    writer = gguf.GGUFWriter(tmp_path / "vocabulary.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, "<tool>"])
    writer.add_token_types([*[gguf.TokenType.NORMAL] * len(tokens), gguf.TokenType.USER_DEFINED])
    writer.add_token_merges(merges)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tokenizer = build_tokenizer(GgufFile(tmp_path / "vocabulary.gguf"))
    ids = tokenizer.encode("a<tool>b").ids
    assert ids[1] == len(tokens)
    assert tokenizer.decode(ids) == "a<tool>b"


def test_the_file_says_whether_a_prompt_begins_with_bos(tiny_gguf):
    assert adds_bos(GgufFile(tiny_gguf)) is False


def test_nothing_is_added_to_a_text(tokenizer):
    assert len(tokenizer.encode("a").ids) == 1
