"""Patterns of JSON Schema in the library's dialect."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diplex.errors import InvalidRequest
from tests.fake_backend import VOCABULARY, byte_tokenizer
from workers.runtime.structured import GrammarCompiler, JsonSchema, Regex
from workers.runtime.structured.schema import look_ahead
from workers.runtime.structured.schema.patterns import anything_but, translate
from workers.runtime.structured.schema.string_formats import STRING_FORMATS

TOKENIZER = byte_tokenizer()
COMPILER = GrammarCompiler(TOKENIZER, VOCABULARY, [2])
SPECIMENS = [
    "",
    "a",
    "é",
    "A1_",
    "\n",
    " ",
    "\r",
    "-",
    "^a",
    "]",
    "[",
    "&&",
    "٣",
    "aab",
    "a-z",
    "\u2028",
    "{2}",
    "🙂",
]


def matches(pattern: str, text: str) -> bool:
    tokens = TOKENIZER.encode(text)
    return COMPILER.compile(Regex(pattern)).matcher().allowed([*tokens, 2]) == len(tokens) + 1


@pytest.mark.parametrize(
    "pattern",
    [
        *(r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"[\w-]", r"[^\w]", r"[^\d\s]", r"[\W_]", "."),
        *(
            r"[a\-z]",
            r"[\[&]",
            r"[\]^]",
            r"a{2}b",
            r"\{2\}",
            r"a*?b",
            r"(?:a|é)",
            r"(?P<n>a)",
            r"\u00e9",
            r"\x41\d_",
        ),
    ],
)
def test_what_a_translation_matches_the_original_matches(pattern):
    translated = f"(?s:.*)(?:{translate(pattern)})(?s:.*)"
    matched = [text for text in SPECIMENS if matches(translated, text)]
    assert matched
    assert [text for text in matched if not re.search(pattern, text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)",
        "(?<!a)b",
        r"a\b",
        r"(a)\1",
        "(?i)a",
        "a++",
        "[]a]",
        "*a",
        "[a",
        "\\",
        r"\x4",
        r"\ud800",
        "a{2000}",
        r"\Z",
    ],
)
def test_what_cant_be_translated(pattern):
    with pytest.raises(ValueError, match=r".+"):
        translate(pattern)


@settings(max_examples=30, deadline=None, database=None)
@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=4), st.text("abc", max_size=4))
def test_anything_but(excluded, text):
    assert matches(anything_but(excluded), text) is (text not in excluded)


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(["!", "="]),
    st.booleans(),
    st.text("abc\n", max_size=4),
)
def test_look_ahead_as_python_has_it(texts, sign, whole, text):
    pattern = f"^(?{sign}{'|'.join(texts)}{'$' if whole else ''})[a-c\n]*$"
    parts, _ = look_ahead.split(pattern)
    if not parts:
        assert whole
        assert len(texts) > 1
        return
    form = JsonSchema(json.dumps({"type": "string", "pattern": pattern}))
    try:
        matcher = COMPILER.compile(form).matcher()
    except InvalidRequest as refusal:
        assert "nothing satisfies" in refusal.message  # noqa: PT017  as of "a" behind which there is an end
        return
    tokens = TOKENIZER.encode(json.dumps(text))
    written = matcher.allowed([*tokens, 2]) == len(tokens) + 1
    assert written <= (re.search(pattern, text) is not None)
    if "\n" not in text:
        assert written == (re.search(pattern, text) is not None)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2000-02-29", "0001-01-01"], ["1900-02-29", "0000-01-01", "2023-02-29", "2023-13-01"]),
        ("date-time", ["2024-06-01T12:00:00Z"], ["2024-06-01 12:00:00Z", "2024-06-01T24:00:00Z"]),
        ("duration", ["P1Y2M", "PT5S", "P3W"], ["P", "PT", "P1W2D"]),
        ("email", ["a.b@example.com"], ["a", "a@", "@b"]),
        ("ipv4", ["127.0.0.1"], ["256.0.0.1", "1.2.3"]),
        ("ipv6", ["::", "::1", "fe80::1:2", "1:2:3:4:5:6:7:8"], ["1::2::3", "1:2:3:4:5:6:7:8:9", ":1"]),
        ("uuid", ["123e4567-e89b-12d3-a456-426614174000"], ["123e4567"]),
        ("uri", ["https://a.example/b?c#d", "urn:x"], ["//a", "a b:c"]),
        ("hostname", ["a-b.example"], ["-a", "a_b", "a--b"]),
        ("json-pointer", ["", "/a~0b/0"], ["a", "/~2"]),
    ],
)
def test_formats(name, good, bad):
    assert [text for text in good if not matches(STRING_FORMATS[name], text)] == []
    assert [text for text in bad if matches(STRING_FORMATS[name], text)] == []


def test_all_formats_compile():
    for name in STRING_FORMATS:
        COMPILER.compile(JsonSchema(json.dumps({"type": "string", "format": name})))
