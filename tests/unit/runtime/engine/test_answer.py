"""From tokens to pieces. The loop's tests have the endings; here are the order and the clock."""

from __future__ import annotations

import pytest

from tests.fake_backend import byte_tokenizer, fake_description
from workers.runtime.engine.answer import Answer, Clocked
from workers.runtime.engine.intake import Encoded
from workers.runtime.engine.messages import Logprob
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import FinishReason, Generation, Prompt, Stopping, Timings
from workers.runtime.sampling import SamplingParams, TokenLogprob

TOKENIZER = byte_tokenizer()


def answer(*stop, sampling=None, clock=lambda: 5.0, choice=0, **stopping):
    generation = Generation(Prompt("Hi"), sampling or SamplingParams(), Stopping(stop=stop, **stopping))
    text = ModelText(TOKENIZER, fake_description())
    return Answer.begin(Encoded(1, generation, (4, 5), 1.0), choice, text, clock)


def ids(text):
    return TOKENIZER.encode(text)


def test_rows_count_their_positions():
    under_test = answer()
    positions = []
    for token in ids("abc"):
        positions.append(under_test.row().position)
        under_test.push(token, None)
    assert positions == [0, 1, 2]


def test_nothing_ends_before_the_fewest_tokens():
    under_test = answer("b", min_tokens=3, stop_token_ids=(7,))
    ended = []
    for token in ids("bab"):
        ended.append(under_test.row().banned is None)
        piece = under_test.push(token, None)
    assert ended == [False, False, False]
    assert under_test.row().banned is None
    assert (piece.text, piece.finish.reason) == ("", FinishReason.STOP)
    assert piece.finish.completion_tokens == 3


def test_log_probabilities_go_with_their_tokens():
    under_test = answer(choice=2)
    (token, other) = ids("ab")
    piece = under_test.push(token, None, logprob=TokenLogprob(token, -0.5, ((token, -0.5), (other, -2.0))))
    top = (Logprob(token, b"a", -0.5), Logprob(other, b"b", -2.0))
    assert piece.logprobs == (Logprob(token, b"a", -0.5, top),)
    assert piece.choice == under_test.row().choice == 2


def test_tokens_are_counted_only_for_penalties():
    assert answer().row().tokens is None
    under_test = answer(sampling=SamplingParams(presence_penalty=1.0))
    (token,) = ids("a")
    under_test.push(token, None)
    counts = under_test.row().tokens
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == {4: 0, 5: 0, token: 1}


def test_a_stop_string_wins_over_the_limit_that_came_with_it():
    under_test = answer("a")
    piece = under_test.push(ids("a")[0], FinishReason.MAX_TOKENS)
    assert (piece.text, piece.token_ids) == ("", tuple(ids("a")))
    assert (piece.finish.reason, piece.finish.stop_match) == (FinishReason.STOP, "a")


@pytest.mark.parametrize("reason", [FinishReason.END_OF_SEQUENCE, FinishReason.STOP])
def test_a_token_that_ends_is_not_part_of_the_output(reason):
    under_test = answer()
    under_test.push(ids("a")[0], None)
    piece = under_test.push(ids("b")[0], reason)
    assert (piece.text, piece.token_ids) == ("", ())
    assert (piece.finish.reason, piece.finish.stop_match) == (reason, ids("b")[0])
    assert piece.finish.completion_tokens == 2


def test_half_a_character_at_the_end_can_complete_a_stop():
    under_test = answer("\ufffd")
    piece = under_test.push(ids("€")[0], FinishReason.MAX_TOKENS)
    assert (piece.text, piece.finish.reason, piece.finish.stop_match) == ("", FinishReason.STOP, "\ufffd")


def test_the_clock_is_read_at_the_stations():
    times = iter([2.0, 4.0, 9.0])
    under_test = answer(clock=lambda: next(times))
    under_test.start()
    under_test.start()
    under_test.push(ids("a")[0], None)
    piece = under_test.push(ids("b")[0], FinishReason.MAX_TOKENS)
    assert piece.finish.timings == Timings(queue=1.0, prefill=2.0, decode=5.0, arrived=1.0)


def test_what_never_began_spent_its_time_waiting():
    assert Clocked(1.0).timings(4.0) == Timings(queue=3.0, prefill=0.0, decode=0.0, arrived=1.0)
