"""How fast an answer came, measured where it is read, and the receipt as one line."""

from __future__ import annotations

import time

from diplex.client import Delta, Receipt


class Pace:
    """Begins at its construction; sees every delta."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._first: float | None = None
        self._last = self._begin
        self._tokens = 0  # behind the first delta

    def take(self, delta: Delta) -> None:
        """Counts a delta that has just come."""
        self._last = time.perf_counter()
        if self._first is None:
            self._first = self._last
        else:
            self._tokens += delta.tokens

    @property
    def first_ms(self) -> float | None:
        """Milliseconds from the request to the first delta; ``None`` if none came."""
        return None if self._first is None else (self._first - self._begin) * 1e3

    @property
    def tokens_per_second(self) -> float | None:
        """Rate behind the first delta; ``None`` with fewer than two."""
        if self._first is None or not self._tokens or self._last <= self._first:
            return None
        return self._tokens / (self._last - self._first)

    def line(self, receipt: Receipt) -> str:
        """The receipt for a person."""
        usage = receipt.usage
        cached = f" ({usage.cached_prompt_tokens} cached)" if usage.cached_prompt_tokens else ""
        parts = [
            f"{usage.prompt_tokens}{cached} → {usage.completion_tokens} tokens",
            f"{rate:.0f} tok/s" if (rate := self.tokens_per_second) is not None else "",
            f"first after {first:.0f} ms" if (first := self.first_ms) is not None else "",
            f"{receipt.model} {receipt.precision}",
            receipt.worker,
        ]
        return " · ".join(part for part in parts if part)
