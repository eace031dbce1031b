"""Markdown as it arrives: what is finished stands still, and only the last block is drawn again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from diplex.cli.terminal import without_control

_FENCE = "```"


class MarkdownStream:
    """Takes pieces of a text and shows them rendered; use as a context, whose end shows the rest.

    Args:
        console: A terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._rest = ""  # behind the last block that is finished
        self._live = Live(console=console, transient=True, refresh_per_second=12)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()  # what it has drawn is gone, and stands once more below
        if self._rest.strip():
            self._console.print(Markdown(self._rest))

    def write(self, text: str) -> None:
        """Adds a piece."""
        self._rest += without_control(text)
        end = finished(self._rest)
        if end:
            # A live display moves what is printed above itself.
            self._console.print(Markdown(self._rest[:end]), end="\n\n")
            self._rest = self._rest[end:]
        self._live.update(_Tail(self._rest))


def finished(text: str) -> int:
    """How many characters of a text are blocks that nothing can be added to.

    They reach up to the last empty line that stands in no fenced code.
    """
    end = at = 0
    fenced = False
    for line in text.splitlines(keepends=True):
        at += len(line)
        if line.lstrip().startswith(_FENCE):
            fenced = not fenced
        elif not line.strip() and line.endswith("\n") and not fenced and text[:at].strip():
            end = at
    return end


class _Tail:
    """The last lines of a rendered text: as many as the screen has."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = console.render_lines(Markdown(self._text), options, pad=False)
        yield from _joined(lines[-max(1, console.height - 1) :])


def _joined(lines: list[list[Segment]]) -> Iterator[Segment]:
    for line in lines:
        yield from line
        yield Segment.line()
