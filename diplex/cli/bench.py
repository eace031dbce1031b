"""``diplex bench``: a load on a gateway, and what comes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diplex import errors
from diplex.bench.doors import Door, GrpcDoor, HttpDoor, Refused, Target
from diplex.bench.figures import first_token_ms
from diplex.bench.load import Load, Seen, Shape
from diplex.bench.plot import draw, histogram, sparkline
from diplex.bench.prompts import PromptBook
from diplex.bench.report import Report, as_json, tokens_by_second
from diplex.cli.terminal import PIPED_WIDTH, ExitCode, standard_error
from diplex.client.connection import KEY_VARIABLE

_BUSY_CORES = 0.7
"""The load generator has one core at most; near that it is what is measured."""
_LOOK_SECONDS = 0.2
_KINDS = (
    ("first token", "first_token_ms"),
    ("each token behind it", "each_token_ms"),
    ("between messages", "between_messages_ms"),
    ("whole request", "whole_ms"),
)
_COLUMNS = ("mean", "p50", "p90", "p95", "p99", "most")


@dataclass(frozen=True, slots=True)
class Task:
    """What the command line asks for."""

    target: Target
    shape: Shape
    address: str | None
    http: str | None
    """Base URL; ``None``: gRPC."""
    as_json: bool
    plot: Path | None


def run(task: Task) -> ExitCode:
    """Measures, and prints what was measured; so it does when it is interrupted.

    Raises:
        DiplexError: The gateway can't be asked at all, or the plot can't be written.
    """
    if task.plot is not None:
        _check_plot(task.plot)
    load, report, interrupted = asyncio.run(_measure(task))
    if task.as_json:
        sys.stdout.write(json.dumps(as_json(report), ensure_ascii=False, indent=2) + "\n")
    else:
        _show(load.seen, report)
    if task.plot is not None:
        _plot(load.seen, report, task.plot)
    if interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if report.requests or report.cut else ExitCode.FAILED


async def _measure(task: Task) -> tuple[Load, Report, bool]:
    door = _door(task)
    try:
        try:
            book = await PromptBook.of(door, task.shape.seed)
            load = Load(door, book, task.shape)
            await load.warm()
        except Refused as error:
            raise errors.DiplexError(error.message) from error
        with _interruptible(load) as interrupt:
            await _watched(load, task.shape)
        return load, Report.of(load.seen, task.shape, door.where), interrupt.came
    finally:
        await door.close()


def _door(task: Task) -> Door:
    if task.http is None:
        return GrpcDoor(task.address, task.target)
    return HttpDoor(task.http, task.target, os.environ.get(KEY_VARIABLE, ""))


class _Interrupt:
    """Ctrl-C ends the load; a second one ends the program."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.came = False

    def take(self) -> None:
        self.came = True
        self._load.stop()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)


@contextmanager
def _interruptible(load: Load) -> Iterator[_Interrupt]:
    interrupt = _Interrupt(load)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupt.take)
    try:
        yield interrupt
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def _watched(load: Load, shape: Shape) -> None:
    """Runs the load, with progress on standard error if that is a terminal."""
    console = standard_error()
    if not console.is_terminal:
        await load.run()
        return
    running = asyncio.create_task(load.run())
    with console.status("") as status:
        while not running.done():
            status.update(f"[dim]{_progress(load.seen, shape)}[/]")
            await asyncio.wait((running,), timeout=_LOOK_SECONDS)
    await running


def _progress(seen: Seen, shape: Shape) -> str:
    of = f" of {shape.seconds:g}" if shape.seconds else ""
    requests = f" of {shape.requests}" if shape.requests else ""
    failed = f", {seen.refused.total()} failed" if seen.refused else ""
    return f"{seen.seconds:.0f}{of} s, {len(seen.whole)}{requests} requests{failed}; Ctrl-C ends it"


def _show(seen: Seen, report: Report) -> None:
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else PIPED_WIDTH)
    load = f"{report.clients} clients" if report.rate is None else f"{report.rate:g} requests/s"
    prompts = ", ".join(str(length) for length in report.prompt_tokens)
    cut = f", {report.cut} cut short at the end" if report.cut else ""
    console.print(
        f"{escape(report.where)}: {load}, prompts of {prompts} tokens, answers of {report.max_tokens}\n"
        f"{report.requests} requests in {report.seconds:.1f} s{cut}\n\n"
        f"[bold]{report.tokens_per_second:.1f}[/] tokens/s, {report.requests_per_second:.2f} requests/s, "
        f"{report.prompt_tokens_per_second:.1f} prompt tokens/s",
    )
    console.print(_table(report, terminal=terminal))
    if terminal:
        _show_plot(console, seen)
    for reason, number in sorted(report.failed.items()):
        console.print(f"[red]{number} failed[/]: {escape(reason)}: {escape(seen.examples[reason])}")
    busy = " [yellow](near its one core: it may be what is measured)[/]"
    console.print(
        f"the load generator took {report.generator_cores:.2f} cores"
        f"{busy if report.generator_cores > _BUSY_CORES else ''}"
    )


def _table(report: Report, *, terminal: bool) -> Table:
    table = Table(box=SIMPLE_HEAD if terminal else None, pad_edge=False, header_style="dim")
    table.add_column("ms")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for title, name in _KINDS:
        spread = getattr(report, name)
        table.add_row(title, *("" if spread is None else f"{spread[each]:.1f}" for each in _COLUMNS))
    return table


def _show_plot(console: Console, seen: Seen) -> None:
    rates = tokens_by_second(seen)[-console.width + 30 :]
    if rates:
        console.print(f"tokens/s by second   {sparkline(rates)}  at most {max(rates):.0f}")
    lines = histogram([first_token_ms(stream) for stream in seen.streams])
    if lines:
        console.print("\nfirst token, ms\n" + "\n".join(lines) + "\n")


def _check_plot(file: Path) -> None:
    if not file.absolute().parent.is_dir():
        raise errors.InvalidRequest(f"--plot {file}: there is no such folder")
    if find_spec("matplotlib") is None:
        standard_error().print(f"[yellow]{escape(str(file))} is not written: pip install matplotlib[/]")


def _plot(seen: Seen, report: Report, file: Path) -> None:
    if find_spec("matplotlib") is None:
        _show_plot(Console(highlight=False, stderr=True, width=PIPED_WIDTH), seen)
        return
    try:
        draw(seen, report, file)
    except (OSError, ValueError) as error:
        raise errors.DiplexError(f"{file} can't be written: {error}") from error
    standard_error().print(f"[dim]wrote {escape(str(file))}[/]")
