"""Figures from streams whose every arrival is known."""

from __future__ import annotations

import math

import pytest

from benchmarks.suite.metrics import load_figures, stall_ratio
from diplex.bench.figures import decode_rate, first_token_ms, gaps_ms, percentile, whole_rate
from diplex.bench.streams import Stream


def stream(*times: float, sent: float = 0.0, counts: list[int] | None = None, begins=()) -> Stream:
    return Stream(10, sent, list(times), counts or [1] * len(times), list(begins))


def test_percentile_is_the_nearest_rank():
    values = [float(value) for value in range(1, 101)]
    assert percentile(values, 50) == 50
    assert percentile(values, 99) == 99
    assert percentile([3.0], 99) == 3
    assert percentile([2.0, 1.0], 0) == 1


def test_percentile_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_decode_counts_all_but_the_first_message_of_each_client():
    early, late = stream(1.0, 2.0, 3.0), stream(2.0, 3.0, 5.0)
    assert decode_rate([early, late]) == pytest.approx(4 / (5 - 1))


def test_messages_with_several_tokens_count_each():
    one = stream(1.0, 2.0, counts=[3, 4])
    assert decode_rate([one]) == pytest.approx(4.0)
    assert gaps_ms(one) == [pytest.approx(1000)]


def test_a_single_message_has_no_decode_rate():
    assert math.isnan(decode_rate([stream(1.0)]))


def test_the_whole_rate_begins_with_the_first_request():
    assert whole_rate([stream(2.0, 4.0, sent=1.0), stream(3.0, 5.0, sent=0.0)]) == pytest.approx(4 / 5)


def test_first_token_counts_from_sending():
    assert first_token_ms(stream(1.5, sent=1.0)) == pytest.approx(500)


def test_no_gap_across_two_requests():
    resumed = stream(1.0, 2.0, 9.0, 10.0, begins=[2])
    assert gaps_ms(resumed) == [pytest.approx(1000), pytest.approx(1000)]


def test_load_figures_have_what_tables_show():
    figures = load_figures([stream(1.0, 2.0, 3.0, begins=[2]), stream(2.0, 3.0)], generator_cpu_seconds=0.3)
    assert figures["tokens"] == 5
    assert figures["requests"] == 3
    assert figures["ttft_p99_ms"] == pytest.approx(2000)
    assert figures["generator_cores"] == pytest.approx(0.1)


def test_the_stall_is_the_longest_gap_that_reaches_into_the_prefill():
    running = stream(0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 20.0)
    # The gap 3 to 10 holds the arrival; 11 to 20 begins after the long prompt's first token.
    assert stall_ratio(running, arrival=3.5, until=10.5) == pytest.approx(7)


def test_no_stall_without_gaps_on_both_sides():
    assert stall_ratio(stream(1.0), 2.0, 3.0) is None
    assert stall_ratio(stream(1.0, 2.0), 3.0, 4.0) is None
