"""``diplex chat``: a conversation in the terminal, or one turn a line from a pipe."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.markup import escape

from diplex import errors
from diplex.cli.pace import Pace
from diplex.cli.patience import PATIENCE
from diplex.cli.terminal import print_error, standard_error, write_text
from diplex.client import Client, GenerateOptions, Image, Message, Role

_HELP = """\
  /model NAME   answer with another model        /reset   forget the conversation
  /system TEXT  set the system message           /quit    leave (or Ctrl-D)
  /image FILE   put a picture before what you say next
  Ctrl-C stops an answer"""

# \x01 and \x02 tell readline which characters take no room on the line.
_PROMPT = "\x01\x1b[1;36m\x02▸\x01\x1b[0m\x02 "


@dataclass
class Chat:
    """One conversation."""

    client: Client
    options: GenerateOptions
    timeout: float | None
    """Seconds an answer may take."""
    receipt: bool
    interactive: bool
    history: list[Message] = field(default_factory=list)
    pictures: list[Image] = field(default_factory=list)
    """For the next turn."""

    def run(self) -> None:
        """Takes lines until the end of input or ``/quit``.

        Raises:
            DiplexError: An answer failed and nobody sits at a terminal.
        """
        if self.interactive:
            import readline  # noqa: F401, PLC0415  # its import gives input() line editing

            standard_error().print("[dim]/help lists commands, Ctrl-D leaves[/]")
        while (line := self._line()) is not None:
            text = line.strip()
            if not text:
                continue
            if not text.startswith("/"):
                self._answer(text)
            elif not self._command(text):
                break

    def _line(self) -> str | None:
        while True:
            try:
                return input(_PROMPT if self.interactive else "")
            except EOFError:
                if self.interactive:
                    standard_error().print()
                return None
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                standard_error().print()

    def _command(self, text: str) -> bool:
        """Does what a line with a slash says; returns whether the chat goes on."""
        name, _, value = text.partition(" ")
        console = standard_error()
        if name == "/quit":
            return False
        if name == "/reset":
            self.history.clear()
            self.pictures.clear()
            console.print("[dim]the conversation is forgotten[/]")
        elif name == "/system":
            self.options["system"] = value.strip() or None
            console.print(f"[dim]system message {'set' if value.strip() else 'removed'}[/]")
        elif name == "/image" and value.strip():
            self._show(value.strip())
        elif name == "/model" and value.strip():
            self._use_model(value.strip())
        else:
            console.print(f"[dim]{_HELP}[/]")
        return True

    def _use_model(self, name: str) -> None:
        try:
            model = self.client.get_model(name, timeout=10)
        except errors.DiplexError as error:
            self._fail(error)
            return
        self.options["model"] = name
        standard_error().print(f"[dim]{escape(model.name)} answers from here on[/]")

    def _show(self, file: str) -> None:
        try:
            self.pictures.append(Image.of(Path(file).expanduser()))
        except errors.DiplexError as error:
            self._fail(error)
            return
        standard_error().print("[dim]ask about it[/]")

    def _answer(self, text: str) -> None:
        turn = [*self.history, Message(Role.USER, [*self.pictures, text])]
        self.pictures = []
        pace = Pace()
        # A long conversation goes on without its beginning; --max-tokens is kept free for the answer.
        options: GenerateOptions = {**self.options, "truncate": True}
        with self.client.stream(turn, timeout=self.timeout, **options) as stream:
            try:
                for delta in stream:
                    pace.take(delta)
                    write_text(delta.text)
                write_text("\n")
                if dropped := stream.accepted.dropped_messages:
                    standard_error().print(f"[dim]the first {dropped} messages had no room any more[/]")
                if self.receipt:
                    standard_error().print(f"[dim]{escape(pace.line(stream.receipt))}[/]")
            except KeyboardInterrupt:
                if not self.interactive:
                    raise
                standard_error().print("\n[dim]stopped[/]")
            except errors.DiplexError as error:
                if stream.text:
                    write_text("\n")
                self._fail(error)
                return
            if stream.text:
                self.history = [*turn, Message(Role.ASSISTANT, stream.text)]

    def _fail(self, error: errors.DiplexError) -> None:
        if not self.interactive:
            raise error
        print_error(error)


def run(
    options: GenerateOptions, *, address: str | None, timeout: float | None, receipt: bool | None
) -> None:
    """Talks until the user leaves.

    Raises:
        DiplexError: An answer failed and nobody sits at a terminal.
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    with Client(address, patience=PATIENCE) as client:
        Chat(client, options, timeout, interactive if receipt is None else receipt, interactive).run()
