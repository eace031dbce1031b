"""Diplex and its peers on this machine, with the same weights and prompts, in turns.

    python -m benchmarks quick --fresh         the telling cells, at most 10 minutes: make bench
    python -m benchmarks full                  every cell; goes on where it was stopped: make bench-full
    python -m benchmarks full --only 'load-*'  some cells
    python -m benchmarks report full           tables and plots anew from what has been measured
    python -m benchmarks cells                 the names of all cells

Results go to benchmarks/results/: NAME.jsonl has every round, NAME.md the tables, NAME-*.svg the plots. A
cell is written when all its rounds are done, so Ctrl-C loses the cell under way and no more. How things are
measured stands in benchmarks/README.md. Other benchmarks: python -m benchmarks.transport, .single_stream,
.batch_flips and .sampling.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatch
from pathlib import Path

from benchmarks import weights
from benchmarks.lineup import DEFAULT, NAMES, Lineup
from benchmarks.suite.cells import FULL, QUICK, Task
from benchmarks.suite.machine import Machine
from benchmarks.suite.plots import draw
from benchmarks.suite.prompts import PromptBook
from benchmarks.suite.report import placed, report
from benchmarks.suite.runner import Results, Runner
from benchmarks.suite.summary import Summary

_RESULTS = Path(__file__).parent / "results"
_README = Path(__file__).parent / "README.md"
_TASKS = {"quick": QUICK, "full": FULL}


def main() -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args()
    if options.command == "cells":
        for name, tasks in _TASKS.items():
            print(f"{name}: {' '.join(task.cell.key for task in tasks)}")
        return 0
    name = options.name if options.command == "report" else options.command
    results = Results(options.results / f"{name}.jsonl")
    if options.command != "report":
        tasks = [task for task in _TASKS[name] if any(fnmatch(task.cell.key, only) for only in options.only)]
        if options.fresh:
            results.path.unlink(missing_ok=True)
        try:
            asyncio.run(_measure(tasks, results, options))
        except KeyboardInterrupt:
            print(f"\nstopped; what is finished stands in {results.path}", file=sys.stderr)
            return 130
    _write_report(results)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=_RESULTS, help="folder of the results")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, tasks in _TASKS.items():
        command = commands.add_parser(name, help=f"measure {len(tasks)} cells")
        command.add_argument("--servers", nargs="+", default=DEFAULT, choices=NAMES)
        command.add_argument(
            "--only", nargs="+", default=["*"], metavar="CELL", help="cells' names, with * and ?"
        )
        command.add_argument("--model", default=weights.MODEL, help="Diplex's model, or model/profile")
        command.add_argument(
            "--worker-option",
            action="append",
            default=[],
            help="option of Diplex's worker, as --worker-option=-x",
        )
        command.add_argument("--fresh", action="store_true", help="forget what has been measured")
    again = commands.add_parser("report", help="write tables and plots anew")
    again.add_argument("name", choices=_TASKS)
    commands.add_parser("cells", help="name all cells")
    return parser


async def _measure(tasks: Sequence[Task], results: Results, options: argparse.Namespace) -> None:
    files = weights.find(options.model)
    lineup = Lineup(files, options.model, options.worker_option)
    servers = [lineup.server(name) for name in options.servers]
    runner = Runner(servers, PromptBook(files.tokenizer), _say)
    _write_machine(results)
    began = time.perf_counter()
    for number, task in enumerate(tasks, start=1):
        minutes = (time.perf_counter() - began) / 60
        _say(f"[{number}/{len(tasks)}, {minutes:.1f} min] {task.cell.key}, {task.rounds} rounds")
        if results.holds(task, options.servers):
            _say("  has been measured")
            continue
        results.put(task.cell, await runner.run(task))


def _say(line: str) -> None:
    print(line, flush=True)


def _write_machine(results: Results) -> None:
    results.path.parent.mkdir(parents=True, exist_ok=True)
    results.path.with_suffix(".machine.json").write_text(json.dumps(asdict(Machine.this()), indent=1) + "\n")


def _write_report(results: Results) -> None:
    machine = Machine(**json.loads(results.path.with_suffix(".machine.json").read_text()))
    summary = Summary(results)
    path, text = results.path.with_suffix(".md"), report(summary, machine)
    path.write_text(text, encoding="utf-8")
    plots = draw(summary, results.path.with_suffix(""))
    files = [path, *plots]
    if results.path.parent == _RESULTS:
        pictures = [f"![{plot.stem}](results/{plot.name})" for plot in plots]
        page = placed(_README.read_text(), f"tables of {path.stem}", text)
        page = placed(page, f"plots of {path.stem}", "\n\n".join(pictures))
        _README.write_text(page, encoding="utf-8")
        files.append(_README)
    _say(f"wrote {', '.join(str(file) for file in files)}")


if __name__ == "__main__":
    sys.exit(main())
