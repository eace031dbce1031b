"""``diplex top``: what a gateway's workers do, live at a terminal, in lines for a pipe."""

from __future__ import annotations

import asyncio
import signal
import sys
import termios
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from diplex import errors
from diplex.bench.plot import sparkline
from diplex.cli.models import STATE_COLOURS
from diplex.cli.terminal import ExitCode
from diplex.cli.traffic import Traffic, TrafficMeter
from diplex.client import AsyncClient, Deployment, Model, ModelList, ModelState

_KEPT: Final = 60
"""Looks that the line of rates goes back."""
_BAR: Final = 12
_MEBIBYTE: Final = 2**20
_ANSWER_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Task:
    """What the command line asks for."""

    address: str | None
    metrics: str | None
    """URL of the gateway's ``/metrics``; ``None``: without what stands there."""
    interval: float
    """Seconds between two looks."""
    count: int | None
    """Looks after which it ends; ``None``: never."""
    unloaded: bool
    """Show also what could be loaded."""


@dataclass(slots=True)
class View:
    """What is shown: the last that a gateway told."""

    address: str
    unloaded: bool
    models: ModelList | None = None
    traffic: Traffic | None = None
    trouble: str = ""
    """Why there is nothing newer."""
    rates: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))

    def take(self, models: ModelList, traffic: Traffic | None) -> None:
        """Replaces what is shown."""
        self.models, self.traffic, self.trouble = models, traffic, ""
        self.rates.append(
            sum(each.decode_tokens_per_second for _, each in _deployments(models) if each.busy_slots)
        )

    def __rich__(self) -> RenderableType:
        """The whole screen."""
        if self.models is None:
            return Text(self.trouble or "…")
        parts: list[RenderableType] = [self._head(self.models), _table(self._shown())]
        if self.trouble:
            parts.append(Text(self.trouble, style="red"))
        parts.append(Text("q ends", style="dim"))
        return Group(*parts)

    def _head(self, models: ModelList) -> Text:
        deployed = [each for _, each in _deployments(models)]
        workers = {each.worker for each in deployed}
        busy, slots = sum(each.busy_slots for each in deployed), sum(each.slots for each in deployed)
        head = Text.assemble(
            ("diplex top", "bold"),
            f"  {self.address}  {datetime.now():%H:%M:%S}\n",  # noqa: DTZ005  # the wall clock of who looks
            f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'}, {busy}/{slots} slots busy, "
            f"{sum(each.queued for each in deployed)} waiting, decoding {self.rates[-1]:.0f} tokens/s ",
            (sparkline(self.rates), "cyan"),
        )
        if self.traffic is not None:
            head.append(f"\n{self.traffic.line()}")
        return head

    def _shown(self) -> list[tuple[Model, Deployment]]:
        deployed = [] if self.models is None else list(_deployments(self.models))
        # What is in use comes first, since a screen may have no room for all that could be.
        deployed.sort(key=lambda row: row[1].state is ModelState.UNLOADED)
        return [row for row in deployed if self.unloaded or row[1].state is not ModelState.UNLOADED]

    def lines(self) -> Iterator[str]:
        """The same for a pipe: a line a deployment."""
        now = datetime.now().isoformat(timespec="seconds")  # noqa: DTZ005  # the wall clock of who looks
        for model, each in self._shown():
            yield "\t".join((now, model.name, *_figures(each), each.worker))
        if self.traffic is not None:
            yield f"{now}\t{self.traffic.line()}"


HEADINGS: Final = ("backend", "precision", "state", "MiB", "slots", "waiting", "decode/s", "prefill/s")


def run(task: Task) -> ExitCode:
    """Shows until ``q``, Ctrl-C, or so many looks.

    Raises:
        DiplexError: No gateway answers, or nobody sits at a terminal and one stops answering.
    """
    return asyncio.run(_run(task))


async def _run(task: Task) -> ExitCode:
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, leaving.set)
    live = sys.stdout.isatty()
    async with AsyncClient(task.address, patience=0) as client, TrafficMeter(task.metrics) as meter:
        view = View(client.address, task.unloaded)
        await _look(view, client, meter)
        if not live:
            await _print(view, client, meter, task, leaving)
            return ExitCode.OK
        with _keys(leaving), Live(view, screen=True, auto_refresh=False) as screen:
            looks = 1
            while (task.count is None or looks < task.count) and not await _left(leaving, task.interval):
                with suppress(errors.DiplexError):  # the view says it
                    await _look(view, client, meter)
                screen.refresh()
                looks += 1
    return ExitCode.OK


async def _print(
    view: View, client: AsyncClient, meter: TrafficMeter, task: Task, leaving: asyncio.Event
) -> None:
    sys.stdout.write("\t".join(("time", "model", *HEADINGS, "worker")) + "\n")
    looks = 1
    while True:
        sys.stdout.write("".join(f"{line}\n" for line in view.lines()))
        sys.stdout.flush()
        if looks == task.count or await _left(leaving, task.interval):
            return
        await _look(view, client, meter)
        looks += 1


async def _look(view: View, client: AsyncClient, meter: TrafficMeter) -> None:
    try:
        view.take(await client.list_models(timeout=_ANSWER_SECONDS), await meter.look())
    except errors.DiplexError as error:
        view.trouble = error.message
        raise


async def _left(leaving: asyncio.Event, seconds: float) -> bool:
    """Whether somebody wants to leave within so many seconds."""
    with suppress(TimeoutError):
        await asyncio.wait_for(leaving.wait(), seconds)
    return leaving.is_set()


@contextmanager
def _keys(leaving: asyncio.Event) -> Iterator[None]:
    """``q`` sets the event, if keys can be read."""
    if not sys.stdin.isatty():
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def take() -> None:
        if sys.stdin.read(1) in {"q", "Q", ""}:
            leaving.set()

    tty.setcbreak(descriptor)
    asyncio.get_running_loop().add_reader(descriptor, take)
    try:
        yield
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _deployments(models: ModelList) -> Iterator[tuple[Model, Deployment]]:
    return ((model, deployment) for model in models for deployment in model.deployments)


def _table(rows: list[tuple[Model, Deployment]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("model", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in {"backend", "precision", "state"} else "right")
    table.add_column("worker", style="dim")
    for model, each in rows:
        backend, precision, state, memory, slots, *rest = _figures(each)
        colour = STATE_COLOURS.get(each.state, "yellow")
        bar = f"[cyan]{_bar(each)}[/] " if each.slots else ""
        table.add_row(
            f"[bold]{escape(model.name)}[/]",
            backend,
            precision,
            f"[{colour}]{state}[/]",
            memory,
            f"{bar}{slots}",
            *rest,
            escape(each.worker),
        )
    return table


def _figures(each: Deployment) -> tuple[str, ...]:
    """A deployment's columns, as :data:`HEADINGS` calls them."""
    return (
        each.backend,
        "" if each.precision == "unspecified" else each.precision,
        each.state,
        f"{each.resident_bytes // _MEBIBYTE}/{each.most_bytes // _MEBIBYTE}" if each.resident_bytes else "",
        f"{each.busy_slots}/{each.slots}" if each.slots else "",
        f"{each.queued}" if each.slots else "",
        f"{each.decode_tokens_per_second:.0f}" if each.busy_slots else "",
        f"{each.prefill_tokens_per_second:.0f}" if each.busy_slots else "",
    )


def _bar(each: Deployment) -> str:
    filled = round(_BAR * each.busy_slots / each.slots)
    return "█" * filled + "░" * (_BAR - filled)
