r"""Regular expressions of JSON Schema in the dialect of the grammar library.

Schemas are written for ECMA-262 and often checked by Python's ``re``, and the two differ in what classes hold
(``\W`` of ``é``). A translated pattern matches only what both would match: shorthands become the part that
is common to both, and in negated classes the union.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from typing import Final

MAX_REPETITION: Final = 1000
"""Most that a counted repetition may ask for."""

_WORD: Final = r"0-9A-Za-z_"
_WORDS: Final = r"\p{L}\p{M}\p{N}\p{Pc}"
_SPACE: Final = r"\t\n\x{b}\f\r\x20"
_SPACES: Final = r"\s\x{1c}-\x{1f}\x{85}\x{feff}"
_SHORTHANDS: Final = {"d": "0-9", "w": _WORD, "s": _SPACE, "D": r"\p{Nd}", "W": _WORDS, "S": _SPACES}
"""Shorthand -> members of a class; those of capitals are what to leave out."""
_WIDER: Final = {"d": r"\p{Nd}", "w": _WORDS, "s": _SPACES, "D": "0-9", "W": _WORD, "S": _SPACE}
"""The same for a negated class."""
_HIGH_SURROGATES: Final = range(0xD800, 0xDC00)
_LOW_SURROGATES: Final = range(0xDC00, 0xE000)
SURROGATES: Final = range(0xD800, 0xE000)
"""Code points that stand for nothing alone."""
_CONTROLS: Final = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_QUANTIFIER: Final = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")


class Unenforceable(ValueError):
    """A pattern that is right, but not regular, or over a limit."""


def translate(pattern: str) -> str:
    """The pattern in the library's dialect. Like the original it may match anywhere, unless it is anchored.

    Raises:
        Unenforceable: The pattern needs what a regular language hasn't, or is over a limit; the message says
            what.
        ValueError: The pattern is broken.
    """
    return _Translation(pattern).result()


def literal(text: str) -> str:
    """A pattern that matches a text and nothing else, without anchors."""
    return "".join(_character(ord(c)) for c in text)


def anything_but(texts: Iterable[str]) -> str:
    """A pattern, without anchors, that matches every whole text that is none of these."""
    branches: dict[str, list[str]] = {}
    ends = True
    for text in texts:
        if text:
            branches.setdefault(text[0], []).append(text[1:])
        else:
            ends = False
    if not branches:
        return r"[\s\S]*" if ends else r"[\s\S]+"
    options = [literal(first) + anything_but(rest) for first, rest in branches.items()]
    options.append(f"[^{''.join(map(literal, branches))}][\\s\\S]*")
    return f"(?:{'|'.join(options)}){'?' if ends else ''}"


class _Translation:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def result(self) -> str:
        pieces = []
        repeatable = False
        depth = 0
        while self._at < len(self._pattern):
            c = self._next()
            if c in "*+?" or (c == "{" and _QUANTIFIER.match(self._pattern, self._at - 1)):
                if not repeatable:
                    raise ValueError(f"nothing to repeat before {c!r}")
                pieces.append(self._quantifier(c))
                repeatable = False
                continue
            repeatable = c not in "^$|("
            depth += (c == "(") - (c == ")")
            if depth < 0:
                raise ValueError("a parenthesis closes nothing")
            pieces.append(self._piece(c))
        if depth:
            raise ValueError("a parenthesis isn't closed")
        return "".join(pieces)

    def _piece(self, c: str) -> str:
        match c:
            case "\\":
                return self._escape()
            case "[":
                return self._class()
            case "(":
                return self._group()
            case ".":
                return r"[^\n\r\x{2028}\x{2029}]"
            case "^" | "$" | "|" | ")":
                return c
            case _:
                return _character(ord(c))

    def _next(self) -> str:
        if self._at == len(self._pattern):
            raise ValueError("it ends too early")
        self._at += 1
        return self._pattern[self._at - 1]

    def _take(self, text: str) -> bool:
        taken = self._pattern.startswith(text, self._at)
        self._at += len(text) * taken
        return taken

    def _quantifier(self, c: str) -> str:
        if c == "{" and (counts := _QUANTIFIER.match(self._pattern, self._at - 1)):
            if max(int(counts[1]), int(counts[3] or 0)) > MAX_REPETITION:
                raise Unenforceable(f"{counts[0]} repeats more than {MAX_REPETITION} times")
            self._at = counts.end()
            c = counts[0]
        if self._take("+"):
            raise Unenforceable("possessive quantifiers can't be enforced")
        self._take("?")  # Lazy or not: the same texts match.
        return c

    def _group(self) -> str:
        if not self._take("?"):
            return "(?:"
        if self._take(":"):
            return "(?:"
        if self._take("=") or self._take("!") or self._take("<=") or self._take("<!"):
            raise Unenforceable("look-around can't be enforced")
        if self._take("<") or self._take("P<"):
            while self._next() != ">":
                pass
            return "(?:"
        raise Unenforceable("inline flags and conditional groups can't be enforced")

    def _escape(self) -> str:
        c = self._next()
        if c in _SHORTHANDS:
            return f"[{'^' if c.isupper() else ''}{_SHORTHANDS[c]}]"
        if c in "pP":
            return f"\\{c}{self._property()}"
        if c in "bB":
            raise Unenforceable("word boundaries can't be enforced")
        if c in "123456789k":
            raise Unenforceable("back-references can't be enforced")
        return _character(self._code(c))

    def _property(self) -> str:
        named = re.compile(r"\{[A-Za-z_=]+\}").match(self._pattern, self._at)
        if named is None:
            raise ValueError(r"\p needs a name in braces")
        self._at = named.end()
        return named[0]

    def _code(self, c: str) -> int:
        """The code point of an escape that stands for one character."""
        if c in _CONTROLS:
            return _CONTROLS[c]
        if c == "0":
            return 0
        if c in "xu":
            code = self._hexadecimal(2 if c == "x" else 4)
            if code in _HIGH_SURROGATES and self._take("\\u"):
                low = self._hexadecimal(4) - _LOW_SURROGATES.start
                code = 0x10000 + ((code - _HIGH_SURROGATES.start) << 10) + low
            if code in SURROGATES:
                raise ValueError("a surrogate stands alone")
            return code
        if c == "c":
            return ord(self._next()) % 32
        if c in string.ascii_letters or c in string.digits:
            raise Unenforceable(f"the escape \\{c} can't be enforced")
        return ord(c)

    def _hexadecimal(self, digits: int) -> int:
        text = self._pattern[self._at : self._at + digits]
        if len(text) < digits or any(c not in string.hexdigits for c in text):
            raise ValueError(f"an escape needs {digits} hexadecimal digits")
        self._at += digits
        return int(text, 16)

    def _class(self) -> str:
        negated = self._take("^")
        if self._take("]"):
            raise ValueError("a class starts with ], which dialects read differently")
        members = []
        while not self._take("]"):
            start = self._member(negated=negated)
            if isinstance(start, str):
                members.append(start)
                continue
            following = self._pattern[self._at : self._at + 2]
            if not following.startswith("-") or following in ("-", "-]"):
                members.append(_character(start))
                continue
            self._at += 1
            end = self._member(negated=negated)
            if isinstance(end, str) or end < start:
                raise ValueError("a range in a class is reversed or ends in a class")
            members.append(f"{_character(start)}-{_character(end)}")
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def _member(self, *, negated: bool) -> int | str:
        """A code point, or the text of several members."""
        c = self._next()
        if c != "\\":
            return ord(c)
        c = self._next()
        if c in _SHORTHANDS:
            members = (_WIDER if negated else _SHORTHANDS)[c]
            return f"[^{members}]" if c.isupper() else members
        if c in "pP":
            return f"\\{c}{self._property()}"
        return 8 if c == "b" else self._code(c)


def _character(code: int) -> str:
    c = chr(code)
    return c if c in string.ascii_letters or c in string.digits else f"\\x{{{code:x}}}"
