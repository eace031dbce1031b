"""What a load comes to: figures of what was seen, for tables, JSON and plots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diplex.bench.figures import each_token_ms, first_token_ms, gaps_ms, spread, whole_ms
from diplex.bench.load import Seen, Shape

Spread = dict[str, float]
"""``mean``, ``p50``, ``p90``, ``p95``, ``p99``, ``least`` and ``most``."""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of one run. Times are milliseconds."""

    where: str
    clients: int
    rate: float | None
    prompt_tokens: tuple[int, ...]
    max_tokens: int
    seconds: float
    requests: int
    """Read to their end."""
    cut: int
    """Still running when the time was over; their tokens count, and their first ones."""
    failed: dict[str, int]
    """Reason to number."""
    tokens: int
    tokens_per_second: float
    """Generated tokens over the whole time: prefill, and waiting, lie inside."""
    prompt_tokens_per_second: float
    requests_per_second: float
    first_token_ms: Spread | None
    between_messages_ms: Spread | None
    """A message may hold several tokens: under load they are merged on their way."""
    each_token_ms: Spread | None
    """Of each request the mean behind its first message."""
    whole_ms: Spread | None
    """Of requests that were read to their end."""
    generator_cores: float
    """CPU time of the load generator, over the time: it is taken from the same machine, if it runs there."""

    @classmethod
    def of(cls, seen: Seen, shape: Shape, where: str) -> Report:
        """The figures."""
        seconds = seen.seconds
        tokens = sum(stream.tokens for stream in seen.streams)
        each = [figure for stream in seen.streams if (figure := each_token_ms(stream)) is not None]
        return cls(
            where=where,
            clients=shape.clients,
            rate=shape.rate,
            prompt_tokens=shape.prompt_tokens,
            max_tokens=shape.max_tokens,
            seconds=seconds,
            requests=len(seen.whole),
            cut=len(seen.streams) - len(seen.whole),
            failed=dict(seen.refused),
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            prompt_tokens_per_second=sum(stream.prompt_tokens for stream in seen.streams) / seconds,
            requests_per_second=len(seen.whole) / seconds,
            first_token_ms=spread([first_token_ms(stream) for stream in seen.streams]),
            between_messages_ms=spread([gap for stream in seen.streams for gap in gaps_ms(stream)]),
            each_token_ms=spread(each),
            whole_ms=spread([whole_ms(stream) for stream in seen.whole]),
            generator_cores=seen.cpu_seconds / seconds,
        )


def tokens_by_second(seen: Seen) -> list[float]:
    """Tokens that arrived in each whole second of the run."""
    seconds = [0.0] * int(seen.seconds)
    for stream in seen.streams:
        for at, count in zip(stream.times, stream.counts, strict=True):
            index = int(at - seen.began)
            if index < len(seconds):
                seconds[index] += count
    return seconds


def as_json(report: Report) -> dict[str, Any]:
    """The report as JSON holds it."""
    return {name: getattr(report, name) for name in Report.__dataclass_fields__}
