"""What gateway, gRPC and the worker's supervisor cost many streams: their speed over the engine's own.

    python -m benchmarks.transport [--clients N] [--tokens N] [--rounds N] [--model NAME] [--json FILE]

The same load goes, in turns within one run, through the gateway over gRPC and straight to an engine process
at its socket pair, as the supervisor drives it. On both sides the clients are one process, whose cost counts:
it is shown, in cores. A ratio of 0.95 says that everything around the engine costs 5 percent of its tokens a
second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import weights
from benchmarks.servers.diplex import Diplex
from benchmarks.servers.engine import Engine
from benchmarks.suite.cells import SHORT, LoadCell, Task
from benchmarks.suite.prompts import PromptBook
from benchmarks.suite.runner import Record, Runner
from benchmarks.suite.summary import Summary

_FIGURES = {
    "decode_tok_s": "decode, tok/s over all clients",
    "whole_tok_s": "tok/s, prefill included",
    "ttft_p50_ms": "time to first token, p50, ms",
    "gap_p50_ms": "between tokens, p50, ms",
    "gap_p99_ms": "between tokens, p99, ms",
    "generator_cores": "clients' own cost, cores",
}


def report(records: list[Record], cell: LoadCell, first: tuple[str, str], second: tuple[str, str]) -> str:
    """A table of two servers and the ratio of the first to the second.

    Args:
        records: Of the run.
        cell: What was run.
        first: Name of a server, and how the table calls it.
        second: The same of the other.
    """
    summary = Summary(records)
    lines = [f"{'':34}{first[1]:>10}{second[1]:>10}   {first[1]} over {second[1]}"]
    for figure, title in _FIGURES.items():
        served, bare = (summary.value(cell.key, name, figure) for name, _ in (first, second))
        ratio = summary.ratio(cell.key, first[0], second[0], figure)
        if served and bare and ratio:
            around = f"({ratio.least:.3f} to {ratio.most:.3f})"
            lines.append(f"{title:34}{served.median:10.2f}{bare.median:10.2f}   {ratio.median:.3f} {around}")
    return "\n".join(lines)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=weights.MODEL)
    parser.add_argument("--json", type=Path, help="write all rounds to this file")
    options = parser.parse_args()
    files = weights.find(options.model)
    runner = Runner([Diplex(options.model), Engine(files.folder)], PromptBook(files.tokenizer), print)
    cell = LoadCell(options.clients, SHORT, options.tokens)
    records = asyncio.run(runner.run(Task(cell, options.rounds)))
    print(f"\n{report(records, cell, ('diplex', 'gateway'), ('engine', 'engine'))}")
    if options.json:
        options.json.write_text(json.dumps([asdict(record) for record in records], indent=1) + "\n")


if __name__ == "__main__":
    main()
