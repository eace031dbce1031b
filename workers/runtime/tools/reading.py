"""Calls of tools, read from text as it is written: first the name, then pieces of the arguments."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Final, NamedTuple

_NAME: Final = '"name"'


class ToolCallPiece(NamedTuple):
    """What was added to a call."""

    id: str
    """With the first piece of a call, else empty."""
    name: str
    """Likewise."""
    arguments: str
    """The next part of their JSON text."""
    number: int = 0
    """Of the call in its answer, from 0."""


class _Part(Enum):
    BEFORE_NAME = auto()
    BEFORE_ARGUMENTS = auto()
    ARGUMENTS = auto()
    BEHIND = auto()


class CallReader:
    """Reads one call: a JSON object with ``name``, then the arguments, an object.

    Args:
        number: Of the call in its answer, from 0.
        call_id: Identifies it.
    """

    def __init__(self, number: int, call_id: str) -> None:
        self._part = _Part.BEFORE_NAME
        self._text = ""  # not consumed
        self._depth = 0
        self._in_string = self._escaped = False
        self._number, self._id, self._name = number, call_id, ""

    @property
    def done(self) -> bool:
        """Whether the arguments are complete."""
        return self._part is _Part.BEHIND

    @property
    def rest(self) -> str:
        """What followed the arguments in the last text, once they are complete."""
        return self._text

    def push(self, text: str) -> tuple[ToolCallPiece, ...]:
        """Takes the next text of the call; returns what it adds, at most one piece."""
        self._text += text
        call_id = name = ""
        if self._part is _Part.BEFORE_NAME and self._read_name():
            call_id, name = self._id, self._name
        if self._part is _Part.BEFORE_ARGUMENTS:
            self._find_arguments()
        arguments = self._take_arguments() if self._part is _Part.ARGUMENTS else ""
        return (ToolCallPiece(call_id, name, arguments, self._number),) if name or arguments else ()

    def _read_name(self) -> bool:
        key = self._text.find(_NAME)
        colon = self._text.find(":", key) if key >= 0 else -1
        start = self._text.find('"', colon) if colon >= 0 else -1
        if start < 0:
            return False
        try:
            self._name, end = json.JSONDecoder().raw_decode(self._text, start)
        except ValueError:  # not complete yet
            return False
        self._text = self._text[end:]
        self._part = _Part.BEFORE_ARGUMENTS
        return True

    def _find_arguments(self) -> None:
        start = self._text.find("{")
        if start >= 0:
            self._text = self._text[start:]
            self._part = _Part.ARGUMENTS

    def _take_arguments(self) -> str:
        for index, character in enumerate(self._text):
            if self._ends_with(character):
                taken, self._text = self._text[: index + 1], self._text[index + 1 :]
                self._part = _Part.BEHIND
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
