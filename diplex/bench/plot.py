"""A run as a picture: PNG or SVG by matplotlib, or lines of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from diplex.bench.figures import first_token_ms, gaps_ms
from diplex.bench.load import Seen
from diplex.bench.report import Report, tokens_by_second

_LEVELS: Final = "▁▂▃▄▅▆▇█"
_BAR: Final = 40
_BINS: Final = 8


def draw(seen: Seen, report: Report, file: Path) -> None:
    """Tokens over time, and the distributions of first tokens and gaps, into a file.

    Args:
        seen: What was measured.
        report: Its figures.
        file: Whose ending says in which format.

    Raises:
        ImportError: There is no matplotlib.
        ValueError: matplotlib doesn't know the format.
        OSError: The file can't be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415  # not part of any installation

    figure = Figure(figsize=(12, 4), layout="constrained")
    over_time, firsts, gaps = figure.subplots(1, 3)
    load = f"{report.clients} clients" if report.rate is None else f"{report.rate:g} requests/s"
    prompts = ", ".join(str(length) for length in report.prompt_tokens)
    figure.suptitle(
        f"{load}, prompts of {prompts} tokens, answers of {report.max_tokens}: "
        f"{report.tokens_per_second:.0f} tokens/s"
    )
    rates = tokens_by_second(seen)
    over_time.plot([second + 0.5 for second in range(len(rates))], rates, marker=".")
    over_time.set(title="tokens/s", xlabel="seconds", ylim=(0, None))
    for axes, title, values in (
        (firsts, "time to first token", [first_token_ms(stream) for stream in seen.streams]),
        (gaps, "between messages", [gap for stream in seen.streams for gap in gaps_ms(stream)]),
    ):
        if values:
            axes.ecdf(values)
        axes.set(title=title, xlabel="ms", ylabel="share at most", xlim=(0, None))
    for axes in (over_time, firsts, gaps):
        axes.grid(visible=True, alpha=0.3)
    figure.savefig(file)


def sparkline(values: Sequence[float]) -> str:
    """One character a value, from nothing to the most."""
    most = max(values, default=0.0)
    if most <= 0:
        return _LEVELS[0] * len(values)
    return "".join(_LEVELS[min(len(_LEVELS) - 1, int(value / most * len(_LEVELS)))] for value in values)


def histogram(values: Sequence[float]) -> list[str]:
    """A line a bin: where it begins, in milliseconds, a bar, and how many values it holds."""
    if not values:
        return []
    least, most = min(values), max(values)
    width = (most - least) / _BINS or 1.0
    counts = [0] * _BINS
    for value in values:
        counts[min(_BINS - 1, int((value - least) / width))] += 1
    tallest = max(counts)
    return [
        f"{least + index * width:9.1f} {'█' * round(_BAR * count / tallest):{_BAR}} {count}".rstrip()
        for index, count in enumerate(counts)
    ]
