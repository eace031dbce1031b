"""Figures from streams. Pure functions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from diplex.bench.figures import decode_rate, first_token_ms, gaps, gaps_ms, percentile, whole_rate
from diplex.bench.streams import Stream

Figures = dict[str, float]
"""Name to value; the unit is in the name."""


def load_figures(streams: Sequence[Stream], generator_cpu_seconds: float) -> Figures:
    """What a load cell reports."""
    firsts = [first_token_ms(stream) for stream in streams]
    between = [gap for stream in streams for gap in gaps_ms(stream)]
    window = max(each.times[-1] for each in streams) - min(each.sent for each in streams)
    return {
        "decode_tok_s": decode_rate(streams),
        "whole_tok_s": whole_rate(streams),
        "ttft_p50_ms": percentile(firsts, 50),
        "ttft_p99_ms": percentile(firsts, 99),
        "gap_p50_ms": percentile(between, 50),
        "gap_p99_ms": percentile(between, 99),
        "tokens": float(sum(stream.tokens for stream in streams)),
        "messages": float(sum(len(stream.counts) for stream in streams)),
        "requests": float(sum(1 + len(stream.begins) for stream in streams)),
        "generator_cores": generator_cpu_seconds / window,
    }


def stall_ratio(stream: Stream, arrival: float, until: float) -> float | None:
    """The longest gap that reaches into [arrival, until], over the median of the gaps before arrival.

    Args:
        stream: One that ran all the while.
        arrival: When the other request was sent.
        until: When its first token came.

    Returns:
        ``None`` if the stream has no gap on one of the sides.
    """
    before = [end - begin for begin, end in gaps(stream) if end <= arrival]
    during = [end - begin for begin, end in gaps(stream) if end > arrival and begin < until]
    return max(during) / statistics.median(before) if before and during else None
