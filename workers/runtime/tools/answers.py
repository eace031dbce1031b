"""Answers that may call tools, read while they are written."""

from __future__ import annotations

import re
import secrets
import string
from enum import Enum, auto
from typing import Final

from workers.runtime.tools.definitions import MOST_CALLS
from workers.runtime.tools.forms import CallForm
from workers.runtime.tools.reading import CallReader, ToolCallPiece

_ALPHABET: Final = string.ascii_letters + string.digits
_BEGUN: Final = '{"name"'


class Opening:
    """Finds where text ends and a call begins. Holds back what may be the beginning of that.

    Args:
        opening: What it begins with; empty if it can't be told from text.
    """

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None]:
        """Takes the next text. Returns text for the reader, and what follows the opening once it is found."""
        if not self._opening:
            return text, None
        self._held += text
        before, found, behind = self._held.partition(self._opening)
        if found:
            self._held = ""
            return before, behind
        lengths = range(len(self._opening) - 1, -1, -1)
        cut = len(self._held) - next(n for n in lengths if self._held.endswith(self._opening[:n]))
        text, self._held = self._held[:cut], self._held[cut:]
        return text, None

    def flush(self) -> str:
        """What was held back."""
        held, self._held = self._held, ""
        return held


class Place(Enum):
    """Where in an answer its end is."""

    START = auto()
    """Nothing but what may become a call without an opening."""
    TEXT = auto()
    BEFORE_CALL = auto()
    """Behind an opening, before any JSON."""
    CALL = auto()
    BEHIND_CALL = auto()
    END = auto()
    """No call and no text can follow."""


class AnswerReader:
    """Reads an answer that may call tools.

    Args:
        form: How calls are written.
        single: Whether it makes one call at most.
        required: Whether it begins with the JSON of a call, or what stands before that.
    """

    def __init__(self, form: CallForm, *, single: bool, required: bool) -> None:
        self._form = form
        self._single = single or form.single
        self._opening = Opening(form.opening)
        self._closing = Opening(form.closing.strip())
        self._held = ""  # before the first JSON
        self._in_list = False
        self._fresh = False  # nothing but space was written since the last call
        self._call: CallReader | None = None
        self.place = Place.START if form.bare else Place.TEXT
        if required and form.bare:
            self.place = Place.BEFORE_CALL
        self.calls = 0
        """Calls that have begun."""
        self.json = ""
        """What is there of the JSON that the last text began."""

    @property
    def complete(self) -> bool:
        """Whether some call has been made, and none is being made."""
        return self.calls > 0 and self.place is not Place.CALL

    def opened(self) -> None:
        """The opening was written, as a token that has no text."""
        if self.place in (Place.START, Place.TEXT):
            self.place = Place.BEFORE_CALL

    def push(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """Takes the next text. Returns what of it is text for the reader, and what it adds to calls."""
        told = ""
        pieces: list[ToolCallPiece] = []
        rest: str | None = text
        self.json = ""
        while rest is not None:
            match self.place:
                case Place.START:
                    rest = self._start(rest)
                case Place.TEXT:
                    before, rest = self._opening.push(rest)
                    before = before.lstrip() if self._fresh else before
                    self._fresh = self._fresh and not before
                    told += before
                    if rest is not None:
                        self.place = Place.BEFORE_CALL
                case Place.BEFORE_CALL:
                    rest = self._begin(rest)
                case Place.CALL:
                    assert self._call is not None  # noqa: S101  # set where the place is
                    pieces += self._call.push(rest)
                    rest = self._call.rest if self._call.done else None
                    self.place = Place.BEHIND_CALL if self._call.done else Place.CALL
                case Place.BEHIND_CALL:
                    rest = self._go_on(rest)
                case Place.END:
                    rest = None
        return told, tuple(pieces)

    def flush(self) -> str:
        """Text that was held back, since it could have become a call."""
        held, self._held = self._held, ""
        return (held if self.place is Place.START else "") + self._opening.flush()

    def _start(self, text: str) -> str | None:
        """At the beginning of an answer whose call may have no opening."""
        self._held += text
        begun = re.sub(r"^\s*\{\s*", "{", self._held)
        if begun.startswith(_BEGUN):
            self.place = Place.BEFORE_CALL
        elif (_BEGUN).startswith(begun.lstrip()):
            return None
        else:
            self.place = Place.TEXT
        held, self._held = self._held, ""
        return held

    def _begin(self, text: str) -> str | None:
        """Before JSON."""
        text = text.lstrip()
        if not text:
            return None
        self.json = text
        self._in_list = self._form.listed and text.startswith("[")
        return self._next_call(text)

    def _next_call(self, text: str) -> str:
        self._call = CallReader(self.calls, self._new_id())
        self.calls += 1
        self.place = Place.CALL
        return text

    def _go_on(self, text: str) -> str | None:
        """Behind the arguments of a call."""
        if self._single or self.calls == MOST_CALLS or not (self._in_list or self._form.closing):
            self.place = Place.END
            return None
        if not self._in_list:
            _, behind = self._closing.push(text)
            if behind is not None:
                self.place, self._fresh = Place.TEXT, True
            return behind
        for index, character in enumerate(text):
            if character == "{":
                return self._next_call(text[index:])
            if character == "]":
                self.place = Place.END
                return None
        return None

    def _new_id(self) -> str:
        letters = "".join(secrets.choice(_ALPHABET) for _ in range(self._form.id_length))
        return f"{self._form.id_prefix}{letters}"
