"""Calls read from text that comes in any pieces."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.tools.answers import AnswerReader, Opening, Place
from workers.runtime.tools.forms import HERMES, LLAMA, MISTRAL, UNTRAINED_LIST, form_of
from workers.runtime.tools.reading import CallReader

OPENING = HERMES.opening

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def pieces_of(text, cuts):
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[a:b] for a, b in pairwise(places)]


@given(
    st.text(min_size=1, max_size=8),
    st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    st.lists(st.integers(0, 80)),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_any_pieces_of_a_call_join_to_it(name, arguments, cuts, indent, ascii_only):
    text = json.dumps({"name": name, "arguments": arguments}, indent=indent, ensure_ascii=ascii_only)
    reader = CallReader(0, "c")
    read = [piece for part in pieces_of(text, cuts) for piece in reader.push(part)]
    assert reader.done
    assert "".join(piece.name for piece in read) == read[0].name == name
    assert json.loads("".join(piece.arguments for piece in read)) == arguments
    assert [bool(piece.id) for piece in read] == [True] + [False] * (len(read) - 1)
    assert reader.push("}\n</tool_call>") == ()


@given(st.text(alphabet="<tol_ca>x", max_size=20), st.text(max_size=9), st.lists(st.integers(0, 40)))
def test_text_before_an_opening_is_told_whole(before, behind, cuts):
    if OPENING in before + OPENING[:-1]:
        return
    opening, told = Opening(OPENING), ""
    parts = pieces_of(before + OPENING + behind, cuts)
    while parts:
        text, rest = opening.push(parts.pop(0))
        told += text
        if rest is not None:
            assert rest + "".join(parts) == behind
            break
    assert told == before


@given(st.text(alphabet="<tol_ca>x", max_size=20), st.lists(st.integers(0, 20)))
def test_text_without_an_opening_is_told_whole(text, cuts):
    if OPENING in text:
        return
    opening = Opening(OPENING)
    assert "".join(opening.push(part)[0] for part in pieces_of(text, cuts)) + opening.flush() == text


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (None, None),
        ("{{ messages }}", None),
        ("… <tool_call> …", HERMES),
        ("… [TOOL_CALLS] …", MISTRAL),
        ("… <|python_tag|> …", LLAMA),
        ("""… message.role == "ipython" … '"parameters": ' …""", LLAMA),
    ],
)
def test_templates_show_the_form(template, form):
    assert form_of(template) is form


CALLS = st.lists(
    st.tuples(st.text(min_size=1, max_size=8), st.dictionaries(st.text(max_size=5), VALUES, max_size=3)),
    min_size=1,
    max_size=4,
)


@given(
    CALLS,
    st.sampled_from([HERMES, MISTRAL, UNTRAINED_LIST]),
    st.booleans(),
    st.lists(st.integers(0, 300)),
)
def test_any_pieces_of_an_answer_join_to_its_calls(calls, form, single, cuts):
    written = [json.dumps({"name": name, form.arguments: arguments}) for name, arguments in calls]
    if form is HERMES:
        text = "\n".join(f"<tool_call>\n{each}\n</tool_call>" for each in written)
    else:
        text = f"{form.opening} [{', '.join(written)}]"
    reader = AnswerReader(form, single=single, required=form.bare)
    told, pieces = "", []
    for part in pieces_of(text, cuts):
        more, added = reader.push(part)
        told += more
        pieces += added
    read = [[piece.name, ""] for piece in pieces if piece.name]
    for piece in pieces:
        read[piece.number][1] += piece.arguments
    assert [(name, json.loads(arguments)) for name, arguments in read] == (calls[:1] if single else calls)
    assert told + reader.flush() == ""
    assert reader.complete
    assert (reader.place is Place.END) == (single or form is not HERMES)
