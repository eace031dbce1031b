"""Figures from streams. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from diplex.bench.streams import Stream


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


def each_token_ms(stream: Stream) -> float | None:
    """Mean time of a token behind the first message; ``None`` if nothing came behind it.

    It doesn't depend on how tokens are merged into messages.
    """
    behind = stream.tokens - stream.counts[0] if stream.counts else 0
    return 1e3 * (stream.times[-1] - stream.times[0]) / behind if behind else None


def whole_ms(stream: Stream) -> float:
    """From sending the request to its last token."""
    return 1e3 * (stream.times[-1] - stream.sent)


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


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, least, most and percentiles; ``None`` of nothing."""
    if not values:
        return None
    percentiles = {f"p{percent}": percentile(values, percent) for percent in (50, 90, 95, 99)}
    return {"mean": statistics.fmean(values), **percentiles, "least": min(values), "most": max(values)}
