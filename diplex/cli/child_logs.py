"""The logs of child processes, for people or as they are."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from rich.console import Console
from rich.text import Text

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_LEVEL_COLOURS = {"warning": "yellow", "error": "bold red", "critical": "bold red"}
_SAID_ELSEWHERE = {"event", "level", "timestamp", "service", "exception"}
_TIME = slice(11, 19)  # of an ISO 8601 time stamp


class Logs(Protocol):
    """Where lines of children and remarks of our own go."""

    def line(self, name: str, text: str) -> None:
        """A line that child ``name`` wrote: a JSON log entry, or anything else."""

    def remark(self, text: str, **facts: object) -> None:
        """Something that the supervising process has to say."""


class ReadableLogs:
    """Coloured names, one line an entry; entries below ``level`` are left out.

    Args:
        console: Where to.
        names: The children, in the order of their colours.
        level: Of :mod:`logging`.
    """

    def __init__(self, console: Console, names: list[str], level: int) -> None:
        self._console = console
        self._level = level
        self._width = max(map(len, names))
        self._colour = {name: _COLOURS[index % len(_COLOURS)] for index, name in enumerate(names)}

    def line(self, name: str, text: str) -> None:
        """See :class:`Logs`."""
        entry = _entry(text)
        if entry is not None and _level_of(entry) < self._level:
            return
        prefix = Text(f"{name:<{self._width}} │ ", style=self._colour.get(name, "dim"))
        self._console.print(prefix + (readable(entry) if entry is not None else Text(text)))
        for line in str(entry.get("exception", "")).splitlines() if entry else ():
            self._console.print(prefix + Text(line, style="dim"))

    def remark(self, text: str, **facts: object) -> None:
        """See :class:`Logs`."""
        del facts  # the text says them
        self._console.print(Text(text, style="yellow"))


class JsonLogs:
    """JSON lines as they are on standard error; everything else is made one."""

    def __init__(self, write: Callable[[str], object] = sys.stderr.write) -> None:
        self._write = write

    def line(self, name: str, text: str) -> None:
        """See :class:`Logs`."""
        if _entry(text) is None:
            text = json.dumps({"service": name, "level": "info", "event": text}, ensure_ascii=False)
        self._put(text)

    def remark(self, text: str, **facts: object) -> None:
        """See :class:`Logs`."""
        self._put(
            json.dumps({"service": "up", "level": "warning", "event": text, **facts}, ensure_ascii=False)
        )

    def _put(self, text: str) -> None:
        with suppress(BrokenPipeError):  # who closed our standard error does not want to know
            self._write(text + "\n")


def readable_line(text: str) -> str:
    """A line of a log without colours; what is no JSON entry as it is."""
    entry = _entry(text)
    return text if entry is None else readable(entry).plain


def readable(entry: Mapping[str, object]) -> Text:
    """A log entry on one line: time, level if it matters, event, facts."""
    level = str(entry.get("level", "info"))
    line = Text(str(entry.get("timestamp", ""))[_TIME], style="dim")
    if level in _LEVEL_COLOURS:
        line.append(f" {level}", _LEVEL_COLOURS[level])
    line.append(f" {entry['event']}", "default")
    for key, value in entry.items():
        if key not in _SAID_ELSEWHERE:
            line.append(f" {key}=", "dim").append(str(value), "default")
    return line


def _entry(text: str) -> dict[str, object] | None:
    if not text.startswith("{"):
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _level_of(entry: Mapping[str, object]) -> int:
    return logging.getLevelNamesMapping().get(str(entry.get("level", "info")).upper(), logging.INFO)
