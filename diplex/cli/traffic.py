"""What a gateway's metrics say of the time between two looks: requests, tokens, first tokens."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from diplex import errors
from diplex.client.connection import KEY_VARIABLE

_REQUESTS = "gen_ai_server_request_duration_seconds_count"
_TOKENS = "gen_ai_client_token_usage_sum"
_FIRST = "gen_ai_server_time_to_first_token_seconds"
_IN_FLIGHT = "diplex_requests_in_flight"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rates over the time between two looks."""

    in_flight: float
    """RPCs under way now."""
    requests_per_second: float
    """Generations that ended."""
    failed_per_second: float
    """Of these, those that ended with an error."""
    input_per_second: float
    """Tokens of prompts, of generations that ended."""
    output_per_second: float
    """Tokens of answers, of generations that ended."""
    first_token_ms: float | None
    """Mean of those that came; ``None`` if none did."""

    def line(self) -> str:
        """For a person."""
        first = "" if self.first_token_ms is None else f", first token after {self.first_token_ms:.0f} ms"
        failed = f" ({self.failed_per_second:.1f} failed)" if self.failed_per_second else ""
        return (
            f"{self.in_flight:.0f} requests under way, {self.requests_per_second:.1f}/s ended{failed}, "
            f"{self.input_per_second:.0f} tokens/s in, {self.output_per_second:.0f} out{first}"
        )


class TrafficMeter:
    """Looks at ``/metrics`` again and again.

    Args:
        url: Where it is; ``None``: nowhere, and :meth:`look` returns nothing.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        key = os.environ.get(KEY_VARIABLE, "")
        self._client = httpx2.AsyncClient(
            headers={"authorization": f"Bearer {key}"} if key else {}, timeout=5.0, trust_env=False
        )
        self._before: tuple[float, dict[str, float]] | None = None  # when, and what stood there

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def look(self) -> Traffic | None:
        """What has happened since the last look; ``None`` at the first.

        Raises:
            Unavailable: The metrics can't be had.
        """
        if self._url is None:
            return None
        try:
            response = await self._client.get(self._url)
            response.raise_for_status()
        except httpx2.HTTPError as error:
            raise errors.Unavailable(f"no metrics at {self._url}: {error or type(error).__name__}") from error
        now, sums = time.monotonic(), _sums(response.text)
        before, self._before = self._before, (now, sums)
        return None if before is None else _between(before[1], sums, now - before[0])


def _sums(text: str) -> dict[str, float]:
    """Samples added up over models: by name, and by what tells apart tokens and failures."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            kind = sample.labels.get("gen_ai_token_type", "")
            name = f"{sample.name}/{kind}" if kind else sample.name
            sums[name] = sums.get(name, 0.0) + sample.value
            if sample.name == _REQUESTS and sample.labels.get("error_type"):
                sums[f"{_REQUESTS}/failed"] = sums.get(f"{_REQUESTS}/failed", 0.0) + sample.value
    return sums


def _between(before: dict[str, float], after: dict[str, float], seconds: float) -> Traffic:
    def more(name: str) -> float:
        # A gateway that was started anew counts from nothing.
        return max(0.0, after.get(name, 0.0) - before.get(name, 0.0))

    firsts = more(f"{_FIRST}_count")
    return Traffic(
        in_flight=after.get(_IN_FLIGHT, 0.0),
        requests_per_second=more(_REQUESTS) / seconds,
        failed_per_second=more(f"{_REQUESTS}/failed") / seconds,
        input_per_second=more(f"{_TOKENS}/input") / seconds,
        output_per_second=more(f"{_TOKENS}/output") / seconds,
        first_token_ms=1e3 * more(f"{_FIRST}_sum") / firsts if firsts else None,
    )
