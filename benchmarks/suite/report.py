"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.suite.aims import DIPLEX, aims_table
from benchmarks.suite.machine import Machine
from benchmarks.suite.summary import Spread, Summary


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as tables show it."""

    name: str
    title: str
    digits: int = 0


_LOAD = (
    Figure("decode_tok_s", "Decode, tokens a second over all clients"),
    Figure("whole_tok_s", "Tokens a second, prefill included"),
    Figure("ttft_p50_ms", "Time to first token, p50, ms"),
    Figure("ttft_p99_ms", "Time to first token, p99, ms"),
    Figure("gap_p50_ms", "Between tokens, p50, ms", 1),
    Figure("gap_p99_ms", "Between tokens, p99, ms", 1),
    Figure("peak_rss_mib", "Peak resident memory, MiB"),
    Figure("start_up_s", "Start until the first answer, s", 1),
    Figure("generator_cores", "The load generator's own cost, cores", 2),
)
_OTHERS = {
    "first-token": (
        Figure("cold_ttft_ms", "new prompt, ms"),
        Figure("cached_ttft_ms", "the same again, ms", 1),
        Figure("cached_over_cold", "again over new", 2),
    ),
    "chat": (
        Figure("whole_tok_s", "tok/s, prefill included"),
        Figure("first_turn_ttft_p50_ms", "TTFT of first turns, p50, ms"),
        Figure("later_turns_ttft_p50_ms", "TTFT of later turns, p50, ms"),
        Figure("later_turns_ttft_p99_ms", "p99, ms"),
    ),
    "mixed": (
        Figure("worst_gap_over_median", "worst gap over the median before", 1),
        Figure("worst_gap_alone", "the same with nothing arriving", 1),
        Figure("long_ttft_ms", "TTFT of the long prompt, ms"),
    ),
    "neighbour": (
        Figure("idle_tok_s", "alone, tok/s", 1),
        Figure("busy_tok_s", "beside a busy core, tok/s", 1),
        Figure("kept", "kept", 2),
    ),
    "burst": (
        Figure("before_mib", "before, MiB"),
        Figure("peak_rss_mib", "peak, MiB"),
        Figure("after_mib", "after, MiB"),
        Figure("after_idle_mib", "after idling, MiB"),
        Figure("after_idle_over_before", "after idling over before", 2),
    ),
}
_TITLES = {
    "first-token": "Time to first token on an idle server",
    "chat": "Conversations under one system message",
    "mixed": "A long prompt arrives among running streams",
    "neighbour": "One stream beside a process that keeps one core busy",
    "burst": "Memory after a burst of long requests",
}


def report(summary: Summary, machine: Machine) -> str:
    """All tables."""
    parts = [f"Measured on {machine.sentence()}."]
    if aims := list(aims_table(summary)):
        parts.append(_table(["Diplex", "aim", "median (least to most)", "met"], aims))
    parts += _loads(summary)
    for kind, figures in _OTHERS.items():
        if cells := [cell for cell in summary.cells if cell.startswith(kind)]:
            parts += [f"### {_TITLES[kind]}", _cells_table(summary, cells, figures)]
    if summary.errors:
        lines = sorted({f"- {each.cell}, {each.server}: {each.error}" for each in summary.errors})
        parts += ["### What failed", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def placed(page: str, name: str, text: str) -> str:
    """A page with a text between ``<!-- NAME -->`` and ``<!-- end of NAME -->``; as it is without them.

    Args:
        page: Markdown.
        name: Of the marks.
        text: What is to stand between them.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}" if found and closed else page


def load_cells(summary: Summary) -> dict[int, dict[int, str]]:
    """Prompt tokens -> clients -> the load cell's key; both ascending."""
    found: dict[int, dict[int, str]] = {}
    for cell in summary.cells:
        if cell.startswith("load-"):
            prompt, clients = map(int, cell.removeprefix("load-").split("x"))
            found.setdefault(prompt, {})[clients] = cell
    return {prompt: dict(sorted(cells.items())) for prompt, cells in sorted(found.items())}


def _loads(summary: Summary) -> Iterator[str]:
    for prompt, cells in load_cells(summary).items():
        yield f"### Prompts of {prompt} tokens"
        peers = [name for name in summary.servers if name != DIPLEX]
        if peers and DIPLEX in summary.servers:
            yield "Decode speed, Diplex over each peer, round by round (more is better):"
            rows = [
                [
                    str(clients),
                    *(_shown(summary.ratio(key, DIPLEX, peer, "decode_tok_s"), 2) for peer in peers),
                ]
                for clients, key in cells.items()
            ]
            yield _table(["clients", *peers], rows)
        for figure in _LOAD:
            yield f"{figure.title}:"
            rows = [
                [
                    str(clients),
                    *(
                        _shown(summary.value(key, name, figure.name), figure.digits)
                        for name in summary.servers
                    ),
                ]
                for clients, key in cells.items()
            ]
            yield _table(["clients", *summary.servers], rows)


def _cells_table(summary: Summary, cells: Sequence[str], figures: Sequence[Figure]) -> str:
    rows = [
        [cell, server, *(_shown(summary.value(cell, server, each.name), each.digits) for each in figures)]
        for cell in cells
        for server in summary.servers
    ]
    return _table(["cell", "", *(figure.title for figure in figures)], rows)


def _shown(spread: Spread | None, digits: int) -> str:
    if spread is None:
        return "–"  # noqa: RUF001  # a dash for what is missing
    median, least, most = (f"{value:,.{digits}f}" for value in (spread.median, spread.least, spread.most))
    return median if least == most else f"{median} ({least} to {most})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
