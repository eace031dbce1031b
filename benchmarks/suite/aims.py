"""What Diplex aims at, and what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.suite.summary import Spread, Summary

DIPLEX = "diplex"


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure of Diplex, or its ratio to a peer's, and the bound that it should keep."""

    what: str
    cell: str
    figure: str
    bound: float
    peer: str = ""
    """Empty: the figure itself counts."""
    at_most: bool = False

    def measured(self, summary: Summary) -> Spread | None:
        """The median over the rounds, and the extremes."""
        if self.peer:
            return summary.ratio(self.cell, DIPLEX, self.peer, self.figure)
        return summary.value(self.cell, DIPLEX, self.figure)

    def met(self, spread: Spread) -> bool:
        """Whether the median keeps the bound."""
        return spread.median <= self.bound if self.at_most else spread.median >= self.bound


AIMS = (
    Aim("one stream, over llama-server", "load-38x1", "decode_tok_s", 1.2, "llama-server"),
    Aim("one stream, over openvino-genai", "load-38x1", "decode_tok_s", 1.3, "openvino-genai"),
    Aim("16 clients, over llama-server", "load-38x16", "decode_tok_s", 3, "llama-server"),
    Aim("16 clients, over openvino-genai", "load-38x16", "decode_tok_s", 1, "openvino-genai"),
    Aim("32 clients, over llama-server", "load-38x32", "decode_tok_s", 3, "llama-server"),
    Aim("32 clients, over openvino-genai", "load-38x32", "decode_tok_s", 1, "openvino-genai"),
    Aim(
        "first token of 512, over llama-server",
        "first-token-512",
        "cold_ttft_ms",
        0.5,
        "llama-server",
        at_most=True,
    ),
    Aim("first token of 512, cached over new", "first-token-512", "cached_over_cold", 0.15, at_most=True),
    Aim(
        "worst gap while 4k tokens arrive, over the median before",
        "mixed-4096-among-8",
        "worst_gap_over_median",
        3,
        at_most=True,
    ),
    Aim("speed kept beside a busy core", "neighbour", "kept", 0.45),
)


def aims_table(summary: Summary) -> Iterator[tuple[str, str, str, str]]:
    """Rows of what was measured: what, aim, median with extremes, whether it is met."""
    for aim in AIMS:
        if spread := aim.measured(summary):
            bound = f"{'at most' if aim.at_most else 'at least'} {aim.bound:g}"
            shown = f"{spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f})"
            yield aim.what, bound, shown, "yes" if aim.met(spread) else "no"
