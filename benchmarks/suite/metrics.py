"""Figures from streams. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from benchmarks.suite.load import Stream

Figures = dict[str, float]
"""Name to value; the unit is in the name."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least so many percent of all don't exceed (nearest rank).

    Raises:
        ValueError: There are none.
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def first_token_ms(stream: Stream) -> float:
    """From sending the request to the first message with a token."""
    return 1e3 * (stream.times[0] - stream.sent)


def gaps(stream: Stream) -> list[tuple[float, float]]:
    """Begin and end of the time between any two messages that follow each other in one request.

    A message with several tokens ends one gap.
    """
    pairs = enumerate(zip(stream.times, stream.times[1:], strict=False), start=1)
    return [pair for at, pair in pairs if at not in stream.begins]


def gaps_ms(stream: Stream) -> list[float]:
    """How long the gaps are."""
    return [1e3 * (end - begin) for begin, end in gaps(stream)]


def decode_rate(streams: Sequence[Stream]) -> float:
    """Tokens a second over all clients: all but each one's first message, from the first token to the last.

    The window opens with the first token that any client got, so prefills that the others still wait for lie
    inside it.
    """
    tokens = sum(stream.tokens - stream.counts[0] for stream in streams)
    window = max(each.times[-1] for each in streams) - min(each.times[0] for each in streams)
    return tokens / window if window > 0 else math.nan


def whole_rate(streams: Sequence[Stream]) -> float:
    """Generated tokens a second, from the first request to the last token: prefill is inside."""
    window = max(each.times[-1] for each in streams) - min(each.sent for each in streams)
    return sum(stream.tokens for stream in streams) / window


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
