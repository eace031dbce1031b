"""Look-ahead that a pattern begins with, taken out of it: the library knows none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from workers.runtime.structured.schema.patterns import anything_but, literal, translate

_PLAIN_TEXT: Final = re.compile(r"[\w \-/:@#%&,;<>=_]+")
_NOTHING: Final = r"[^\s\S]"


def split(pattern: str) -> tuple[list[str], str]:
    """A pattern without the look-ahead that it begins with, and that in patterns of its own.

    All of them together describe what the pattern does. Look-ahead is understood right behind ``^``, where it
    says something about the beginning: that something matches there, or that none of some literal texts
    stands there. Other look-ahead is left where it is.

    Returns:
        Patterns in the library's dialect, and the rest of the pattern as it was.

    Raises:
        ValueError: What is looked for is broken.
    """
    parts: list[str] = []
    while (start := re.match(r"\^\(\?([=!])", pattern)) and not _has_alternatives(pattern):
        end = _end_of_group(pattern, 1)
        inside = pattern[start.end() : end]
        if start[1] == "=":
            parts.append(f"^(?:{translate(inside)})")
        else:
            texts = inside[:-1].split("|") if (whole := inside.endswith("$")) else inside.split("|")
            # Python's $ stands before a last line feed too.
            if not all(_PLAIN_TEXT.fullmatch(text) for text in texts) or (whole and len(texts) > 1):
                break
            others = anything_but([*texts, f"{texts[0]}\n"]) if whole else _beginning_otherwise(texts)
            parts.append(f"^(?:{others})$")
        pattern = "^" + pattern[end + 1 :]
    return parts, pattern


def _end_of_group(pattern: str, start: int) -> int:
    """Where the group that begins at ``start`` ends.

    Raises:
        ValueError: It doesn't.
    """
    depth = 0
    for at, c in _outside_classes(pattern, start):
        depth += (c == "(") - (c == ")")
        if not depth:
            return at
    raise ValueError("a parenthesis isn't closed")


def _has_alternatives(pattern: str) -> bool:
    depth = 0
    for _, c in _outside_classes(pattern, 0):
        depth += (c == "(") - (c == ")")
        if c == "|" and not depth:
            return True
    return False


def _outside_classes(pattern: str, start: int) -> Iterator[tuple[int, str]]:
    """Places and characters of a pattern that are neither escaped nor within a class."""
    in_class, at = False, start
    while at < len(pattern):
        c = pattern[at]
        if c == "\\":
            at += 1
        elif in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
        else:
            yield at, c
        at += 1


def _beginning_otherwise(texts: Iterable[str]) -> str:
    """A pattern, without anchors, that matches every whole text that begins with none of these."""
    branches: dict[str, list[str]] = {}
    for text in texts:
        if not text:
            return _NOTHING
        branches.setdefault(text[0], []).append(text[1:])
    options = [literal(first) + _beginning_otherwise(rest) for first, rest in branches.items() if all(rest)]
    options.append(f"[^{''.join(map(literal, branches))}][\\s\\S]*")
    return f"(?:{'|'.join(options)})?"
