from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.runtime.text.stopping import StopMatcher


def oracle(text, stops):
    """The first stop to be complete, by looking at every beginning of the whole text."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def run(text, stops, cuts):
    matcher = StopMatcher(stops)
    emitted = ""
    edges = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    for start, end in pairwise(edges):
        piece, matched = matcher.push(text[start:end])
        emitted += piece
        if matched is not None:
            return emitted, matched, emitted
    return emitted + matcher.flush(), None, emitted


letters = st.text(alphabet="abé👍", max_size=30)
stop_lists = st.lists(st.text(alphabet="abé👍", min_size=1, max_size=5), max_size=4)


@settings(deadline=None)  # the machine may be busy
@given(letters, stop_lists, st.lists(st.integers(0, 30), max_size=30))
def test_any_cutting_finds_what_the_whole_text_has(text, stops, cuts):
    emitted, matched, _ = run(text, stops, cuts)
    assert (emitted, matched) == oracle(text, stops)


@settings(deadline=None)  # the machine may be busy
@given(letters, stop_lists, st.lists(st.integers(0, 30), max_size=30))
def test_all_that_is_certain_is_emitted_and_no_more(text, stops, cuts):
    _, matched, before_flush = run(text, stops, cuts)
    if matched is None:
        tails = [text[start:] for start in range(len(text) + 1)]
        held = next(tail for tail in tails if any(stop.startswith(tail) for stop in stops) or not tail)
        assert before_flush + held == text


def test_a_stop_over_several_pieces():
    matcher = StopMatcher(["\n\nUser:"])
    assert matcher.push("Hi.\n") == ("Hi.", None)
    assert matcher.push("\nUs") == ("", None)
    assert matcher.push("ually") == ("\n\nUsually", None)
    assert matcher.push("\n\n\nUser: x") == ("\n", "\n\nUser:")
    assert matcher.push("more") == ("", "\n\nUser:")
    assert matcher.flush() == ""


def test_the_first_to_be_complete_wins_and_then_the_longest():
    assert StopMatcher(["abcd", "bc"]).push("abcd") == ("a", "bc")
    assert StopMatcher(["bc", "abc", "c"]).push("abc") == ("", "abc")


def test_flush_returns_what_was_held():
    matcher = StopMatcher(["stop"])
    assert matcher.push("non-st") == ("non-", None)
    assert matcher.flush() == "st"


def test_no_stops_hold_nothing():
    assert StopMatcher([]).push("text") == ("text", None)


def test_empty_stops_are_refused():
    with pytest.raises(ValueError, match="empty"):
        StopMatcher(["a", ""])
