"""``diplex chat``: a conversation in the terminal, or one turn a line from a pipe."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from diplex import errors
from diplex.cli.chat_input import Lines, PipedLines, PromptedLines
from diplex.cli.markdown import MarkdownStream
from diplex.cli.pace import Pace
from diplex.cli.patience import PATIENCE
from diplex.cli.terminal import print_error, standard_error, without_echo, write_text
from diplex.client import Client, GenerateOptions, Image, Message, Role, Stream

COMMANDS: Final = {
    "/model": "NAME: answer with another model; alone: list them",
    "/image": "FILE: put a picture before what you say next",
    "/system": "TEXT: set the system message; alone: remove it",
    "/reset": "forget the conversation",
    "/help": "this",
    "/quit": "leave (or Ctrl-D)",
}

_KEYS: Final = "Ctrl-C stops an answer, Alt-Enter begins a new line, Tab completes, ↑ goes back"


@dataclass
class Chat:
    """One conversation."""

    client: Client
    options: GenerateOptions
    timeout: float | None
    """Seconds an answer may take."""
    receipt: bool
    interactive: bool
    markdown: bool
    """Render answers."""
    keep: bool
    """Remember what was typed from one chat to the next."""
    history: list[Message] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    """For the next turn."""

    def run(self) -> None:
        """Takes lines until the end of input or ``/quit``.

        Raises:
            DiplexError: An answer failed and nobody sits at a terminal.
        """
        if self.interactive:
            standard_error().print("[dim]/help lists commands, Ctrl-D leaves[/]")
        lines = self._lines()
        while (line := lines.next()) is not None:
            text = line.strip()
            if not text:
                continue
            if not text.startswith("/"):
                self._answer(text)
            elif not self._command(text):
                break

    def _lines(self) -> Lines:
        if not self.interactive:
            return PipedLines()
        return PromptedLines(COMMANDS, lambda: self._names, self._status, keep=self.keep)

    def _status(self) -> str:
        pictures = f"{len(self.pictures)} 🖼  " if self.pictures else ""
        return f"{pictures}{self.options.get('model') or ''}"

    @cached_property
    def _names(self) -> list[str]:
        try:
            return [model.name for model in self.client.list_models(timeout=2)]
        except errors.DiplexError:
            return []

    def _command(self, text: str) -> bool:
        """Does what a line with a slash says; returns whether the chat goes on."""
        name, _, value = text.partition(" ")
        value = value.strip()
        if name == "/quit":
            return False
        if name == "/reset":
            self.history.clear()
            self.pictures.clear()
            self._say("the conversation is forgotten")
        elif name == "/system":
            self.options["system"] = value or None
            self._say(f"system message {'set' if value else 'removed'}")
        elif name == "/image" and value:
            self._show(value)
        elif name == "/model" and value:
            self._use_model(value)
        elif name == "/model":
            self._say("  ".join(self._names) or "no models")
        else:
            self._help(name)
        return True

    def _help(self, name: str) -> None:
        if name not in COMMANDS:
            self._say(f"there is no {name}")
        rows = [f"  {command:8} {told}" for command, told in COMMANDS.items()]
        self._say("\n".join([*rows, f"  {_KEYS}"]))

    def _use_model(self, name: str) -> None:
        try:
            model = self.client.get_model(name, timeout=10)
        except errors.DiplexError as error:
            self._fail(error)
            return
        self.options["model"] = name
        self._say(f"{model.name} answers from here on{'' if model.images else '; it sees no pictures'}")

    def _show(self, file: str) -> None:
        try:
            self.pictures.append(Image.of(_path(file)))
        except errors.DiplexError as error:
            self._fail(error)
            return
        self._say("ask about it")

    def _answer(self, text: str) -> None:
        turn = [*self.history, Message(Role.USER, [*self.pictures, text])]
        pictures, self.pictures = self.pictures, []
        pace = Pace()
        # A long conversation goes on without its beginning; --max-tokens is kept free for the answer.
        options: GenerateOptions = {**self.options, "truncate": True}
        with self.client.stream(turn, timeout=self.timeout, **options) as stream:
            try:
                with without_echo():
                    self._write(stream, pace)
                self._conclude(stream, pace)
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                self._say("stopped")
            except errors.DiplexError as error:
                if isinstance(error, errors.Unavailable):
                    self.pictures = pictures  # what was asked can be asked again
                self._fail(error)
                return
            if stream.text:
                self.history = [*turn, Message(Role.ASSISTANT, stream.text)]

    def _write(self, stream: Stream, pace: Pace) -> None:
        with MarkdownStream(Console(highlight=False)) if self.markdown else nullcontext() as rendered:
            write = write_text if rendered is None else rendered.write
            try:
                for delta in stream:
                    pace.take(delta)
                    write(delta.text)
            except BaseException:
                if stream.text and not self.markdown:
                    write_text("\n")
                raise
            if not self.markdown:
                write_text("\n")

    def _conclude(self, stream: Stream, pace: Pace) -> None:
        if dropped := stream.accepted.dropped_messages:
            self._say(f"the first {dropped} messages had no room any more")
        if self.receipt:
            self._say(pace.line(stream.receipt))

    def _say(self, text: str) -> None:
        standard_error().print(f"[dim]{escape(text)}[/]")

    def _fail(self, error: errors.DiplexError) -> None:
        if not self.interactive:
            raise error
        print_error(error)


def run(
    options: GenerateOptions,
    *,
    address: str | None,
    timeout: float | None,
    receipt: bool | None,
    markdown: bool | None,
    keep: bool,
) -> None:
    """Talks until the user leaves.

    Raises:
        DiplexError: An answer failed and nobody sits at a terminal.
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    told, rendered = (interactive if wanted is None else wanted for wanted in (receipt, markdown))
    with Client(address, patience=PATIENCE) as client:
        Chat(client, options, timeout, told, interactive, rendered and sys.stdout.isatty(), keep).run()


def _path(file: str) -> Path:
    """A path as terminals paste it: perhaps in quotes, perhaps with a tilde."""
    return Path(file.strip("'\"")).expanduser()
