import threading

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diplex.errors import InvalidRequest, UnsupportedModel
from tests.unit.runtime.text import vocabularies
from workers.runtime.text.control import BREAK, ControlText
from workers.runtime.text.tokenizer import Tokenizer

FRAGMENTS = [
    *vocabularies.SPECIAL,
    "<",
    "<|",
    "<|im_",
    "start|>",
    "end|>",
    "s>",
    "|",
    " ",
    "\n",
    "hello",
    "é",
    "</",
    "👍",
]
user_text = st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS)).map("".join))


def test_control_text_becomes_control_tokens_unless_broken():
    tokenizer = vocabularies.byte_level()
    start = tokenizer.id_of("<|im_start|>")
    assert tokenizer.encode("<|im_start|>")[0] == start
    broken = tokenizer.encode(tokenizer.control.break_in("<|im_start|>"))
    assert start not in broken
    assert tokenizer.decode(broken) == "<|im_start|>"


@settings(deadline=None)  # the machine may be busy
@given(parts=st.lists(user_text, max_size=4))
def test_no_user_text_makes_a_control_token(parts):
    assume("né" not in "".join(parts))  # an added token that the decoder garbles: it takes é for a byte
    tokenizer = vocabularies.byte_level()
    ids = tokenizer.encode("".join(map(tokenizer.control.break_in, parts)))
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids, skip_special_tokens=False) == "".join(parts)


@settings(deadline=None)  # the machine may be busy
@given(parts=st.lists(user_text, max_size=4))
def test_no_user_text_makes_a_control_token_with_fallback_bytes(parts):
    tokenizer = vocabularies.byte_fallback()
    text = "".join(map(tokenizer.control.break_in, parts))
    assert not (tokenizer.special_ids - {tokenizer.id_of("<unk>")}) & set(tokenizer.encode(text))


@settings(deadline=None)  # the machine may be busy
@given(st.text(alphabet=st.characters(exclude_characters="<", exclude_categories=["Cs"])))
def test_other_text_is_left_as_it_is(text):
    control = vocabularies.byte_level().control
    assert control.break_in(text) == text


def test_spellings_that_overlap_and_ends_that_begin_one_are_broken():
    control = ControlText(["<a>", "a>b", "x"])
    assert control.break_in("<a>b") == f"<{BREAK}a{BREAK}>b"
    assert control.break_in("1 <a") == f"1 <{BREAK}a{BREAK}"
    assert control.break_in("x") == "x"  # one character can't be broken


def test_messages_are_broken_throughout():
    control = ControlText(["<s>"])
    messages = [{"role": "user", "content": [{"text": "<s>", "n": 1}], "<s>": None}]
    cut = f"<{BREAK}s>"
    assert control.break_in_all(messages) == [{"role": "user", "content": [{"text": cut, "n": 1}], cut: None}]


def test_many_spellings_and_a_hostile_text_stay_cheap():
    control = ControlText(f"<unused{i}>" for i in range(6000))
    assert control.break_in("<unused" * 50_000).count(BREAK) == 1


def test_special_tokens_of_the_model_are_added_on_request_and_once():
    tokenizer = vocabularies.byte_level()
    bos = tokenizer.id_of("<s>")
    plain = tokenizer.encode("hello")
    assert tokenizer.encode("hello", add_special_tokens=True) == [bos, *plain]
    broken = tokenizer.encode(tokenizer.control.break_in("<s>hello"), add_special_tokens=True)
    assert broken.count(bos) == 1


def test_lone_surrogates_are_refused():
    with pytest.raises(InvalidRequest):
        vocabularies.byte_level().encode("\udcff")


def test_truncation_and_padding_of_the_file_are_off(tmp_path):
    backend = vocabularies.Tokenizer.from_str(vocabularies.byte_level()._backend.to_str())
    backend.enable_truncation(2)
    backend.enable_padding(length=50)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_file(tmp_path / "tokenizer.json")
    assert tokenizer.encode("hello world") == vocabularies.byte_level().encode("hello world")


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_broken_files_are_unsupported(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


def test_threads_share_a_tokenizer():
    tokenizer = vocabularies.byte_level()
    texts = [f"hello world {i} 日本語" for i in range(200)]
    expected = [tokenizer.encode(text) for text in texts]
    results = [None] * 4

    def run(place):
        results[place] = [tokenizer.encode(text) for text in texts]

    threads = [threading.Thread(target=run, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
