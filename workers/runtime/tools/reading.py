"""Calls of tools, read from text as it is written: first the name, then pieces of the arguments."""

from __future__ import annotations

import json
import secrets
from enum import Enum, auto
from typing import Final, NamedTuple

OPENING: Final = "<tool_call>"
"""What models with the form of Hermes and Qwen write before the JSON of a call."""


def writes_calls(chat_template: str | None) -> bool:
    """Whether a model's template shows that it writes calls in that form."""
    return chat_template is not None and OPENING in chat_template


class ToolCallPiece(NamedTuple):
    """What was added to a call."""

    id: str
    """With the first piece of a call, else empty."""
    name: str
    """Likewise."""
    arguments: str
    """The next part of their JSON text."""


class Opening:
    """Finds where text ends and a call begins. Holds back what may be the beginning of that."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Takes the next text. Returns text for the reader, and what follows the opening once it is found."""
        self._held += text
        before, found, behind = self._held.partition(OPENING)
        if found:
            return before, behind
        keep = next(n for n in range(len(OPENING) - 1, -1, -1) if self._held.endswith(OPENING[:n]))
        cut = len(self._held) - keep
        text, self._held = self._held[:cut], self._held[cut:]
        return text, None

    def flush(self) -> str:
        """What was held back, at the end."""
        held, self._held = self._held, ""
        return held


class _Place(Enum):
    BEFORE_NAME = auto()
    BEFORE_ARGUMENTS = auto()
    ARGUMENTS = auto()
    BEHIND = auto()


class CallReader:
    """Reads one call: a JSON object with ``name``, then ``arguments``, an object."""

    def __init__(self) -> None:
        self._place = _Place.BEFORE_NAME
        self._text = ""  # not consumed
        self._depth = 0
        self._in_string = self._escaped = False
        self._id = f"call_{secrets.token_hex(12)}"
        self._name = ""

    @property
    def done(self) -> bool:
        """Whether the arguments are complete."""
        return self._place is _Place.BEHIND

    def push(self, text: str) -> tuple[ToolCallPiece, ...]:
        """Takes the next text of the call; returns what it adds, at most one piece."""
        self._text += text
        call_id = name = ""
        if self._place is _Place.BEFORE_NAME and self._read_name():
            call_id, name = self._id, self._name
        if self._place is _Place.BEFORE_ARGUMENTS:
            self._find_arguments()
        arguments = self._take_arguments() if self._place is _Place.ARGUMENTS else ""
        return (ToolCallPiece(call_id, name, arguments),) if name or arguments else ()

    def _read_name(self) -> bool:
        key = self._text.find('"name"')
        colon = self._text.find(":", key) if key >= 0 else -1
        start = self._text.find('"', colon) if colon >= 0 else -1
        if start < 0:
            return False
        try:
            self._name, end = json.JSONDecoder().raw_decode(self._text, start)
        except ValueError:  # not complete yet
            return False
        self._text = self._text[end:]
        self._place = _Place.BEFORE_ARGUMENTS
        return True

    def _find_arguments(self) -> None:
        start = self._text.find("{")
        if start >= 0:
            self._text = self._text[start:]
            self._place = _Place.ARGUMENTS

    def _take_arguments(self) -> str:
        for index, character in enumerate(self._text):
            if self._ends_with(character):
                taken, self._text = self._text[: index + 1], ""
                self._place = _Place.BEHIND
                return taken
        taken, self._text = self._text, ""
        return taken

    def _ends_with(self, character: str) -> bool:
        """Whether the object of the arguments ends with its next character."""
        if self._in_string:
            if self._escaped or character == "\\":
                self._escaped = not self._escaped
            elif character == '"':
                self._in_string = False
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            return self._depth == 0
        return False
