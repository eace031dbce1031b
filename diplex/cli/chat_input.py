"""Where the lines of a chat come from: a prompt with history and completion, or a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

HISTORY_FILE = "chat_history"


class Lines(Protocol):
    """A source of lines."""

    def next(self) -> str | None:
        """The next line; ``None`` at the end."""


class PipedLines:
    """Standard input, one line a turn."""

    def next(self) -> str | None:
        """See :class:`Lines`."""
        try:
            return input()
        except EOFError:
            return None


class PromptedLines:
    """Asks a person. Alt-Enter begins a new line; Ctrl-C forgets what was typed; Ctrl-D ends.

    Args:
        commands: Name to what a person reads of it.
        names: Gives the names of models.
        status: What stands at the right.
        keep: Whether lines are remembered from one chat to the next.
    """

    def __init__(
        self,
        commands: Mapping[str, str],
        names: Callable[[], Sequence[str]],
        status: Callable[[], str],
        *,
        keep: bool,
    ) -> None:
        self._status = status
        self._session: PromptSession[str] = PromptSession(
            history=_history() if keep else InMemoryHistory(),
            auto_suggest=AutoSuggestFromHistory(),
            completer=CommandCompleter(commands, names),
            complete_while_typing=False,
            key_bindings=_keys(),
        )

    def next(self) -> str | None:
        """See :class:`Lines`."""
        while True:
            try:
                return self._session.prompt(_PROMPT, rprompt=self._status)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None


_PROMPT: StyleAndTextTuples = [("bold ansicyan", "▸ ")]


class CommandCompleter(Completer):
    """Completes commands, behind ``/model`` names of models, and behind ``/image`` paths.

    Args:
        commands: Name to what a person reads of it.
        names: Gives the names of models.
    """

    def __init__(self, commands: Mapping[str, str], names: Callable[[], Sequence[str]]) -> None:
        self._commands = commands
        self._names = names
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may stand at the cursor."""
        command, space, value = document.text_before_cursor.partition(" ")
        if not command.startswith("/"):
            return
        if not space:
            for name, told in self._commands.items():
                if name.startswith(command):
                    yield Completion(name, -len(command), display_meta=told)
        elif command == "/model":
            for name in self._names():
                if name.lower().startswith(value.lower()):
                    yield Completion(name, -len(value))
        elif command == "/image":
            yield from self._paths.get_completions(Document(value), complete_event)


def history_file(environment: Mapping[str, str]) -> Path:
    """Where what was typed is kept (XDG base directories: state)."""
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "diplex" / HISTORY_FILE


def _history() -> History:
    file = history_file(os.environ)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError:  # a home that can't be written to is no reason not to talk
        return InMemoryHistory()
    return FileHistory(str(file))


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys
