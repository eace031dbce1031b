"""Progress for a person at a terminal, and in few lines for a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from workers.runtime.pace import Pace
from workers.runtime.progress import Phase, Progress, Report

_IN_BYTES: Final = frozenset({Phase.DOWNLOAD, Phase.VERIFY, Phase.LOAD})
_LOG_SECONDS: Final = 5.0
"""Between two lines of one phase when nobody sits at a terminal."""


@contextmanager
def displayed(console: Console) -> Iterator[Report]:
    """Shows what is reported: bars at a terminal, else a line a phase and every few seconds."""
    if not console.is_terminal:
        yield _Lines(console).report
        return
    with Bars(
        TextColumn("{task.description:>9}"),
        BarColumn(),
        _AmountColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("[dim]{task.fields[detail]}"),
        console=console,
    ) as bars:
        yield _Display(bars).report


class _AmountColumn(ProgressColumn):
    """Bytes in the phases that count bytes, plain numbers in the others."""

    def __init__(self) -> None:
        super().__init__()
        self._bytes, self._count = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        column = self._bytes if task.fields["in_bytes"] else self._count
        return column.render(task)


class _Display:
    """One bar a phase."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[Phase, TaskID] = {}  # phase -> its bar

    def report(self, progress: Progress) -> None:
        task = self._tasks.get(progress.phase)
        if task is None:
            task = self._tasks[progress.phase] = self._bars.add_task(
                progress.phase.value, detail="", in_bytes=progress.phase in _IN_BYTES
            )
        self._bars.update(task, completed=progress.done, total=progress.total, detail=progress.detail)


class _Lines:
    """A line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._phase: Phase | None = None
        self._printed_at = 0.0
        self._pace = Pace()

    def report(self, progress: Progress) -> None:
        progress = self._pace.timed(progress)
        due = time.monotonic() - self._printed_at > _LOG_SECONDS
        if progress.phase is self._phase and not due:
            return
        self._phase, self._printed_at = progress.phase, time.monotonic()
        share = f" {100 * progress.done // progress.total}%" if progress.total else ""
        left = f", {progress.eta:.0f} s left" if progress.eta is not None else ""
        self._console.print(f"{progress.phase.value}{share} {progress.detail}{left}", highlight=False)
