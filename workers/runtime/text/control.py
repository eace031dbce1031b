"""Keeps control tokens spelt out in a user's text from becoming control tokens.

A chat template writes control tokens as text (``<|im_start|>``), and the tokenizer turns that text into
their ids. A user who writes the same characters into a message would so be able to end their turn and begin
one as the system.

:class:`ControlText` prevents it before the template runs. Wherever a control token is spelt out in user
text, it puts :data:`BREAK` behind the token's first character. The template carries the break along like
any other character, and :meth:`workers.runtime.text.tokenizer.Tokenizer.encode` encodes what lies before
and after it separately, so that no piece holds the whole spelling. The characters reach the model
unchanged, as ordinary text.

``BREAK`` is a lone surrogate. It can't be part of valid UTF-8, hence of no text received, and no user can
write one.

What it costs: where a spelling was broken, tokens can't span the break, and a tokenizer that begins every
text with a space (SentencePiece's dummy prefix) adds one there. Texts that spell no control token are
encoded as ever. A template that looks for a *special* token's spelling inside a message no longer finds it.
Not covered: special tokens one character long, and special tokens marked ``normalized`` when the normaliser
turns other text into their spelling.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, TypeVar, cast

BREAK: Final = "\ud800"
"""Marks the place at which a spelling of a control token is cut in two."""

T = TypeVar("T")


class ControlText:
    """Finds the spellings of control tokens and breaks them. Immutable, hence safe to share between threads.

    Args:
        spellings: The texts that the tokenizer turns into control tokens.
    """

    def __init__(self, spellings: Iterable[str]) -> None:
        self._spellings = frozenset(text for text in spellings if len(text) > 1)
        self._longest = max(map(len, self._spellings), default=0)
        lengths: defaultdict[str, set[int]] = defaultdict(set)
        for text in self._spellings:
            lengths[text[:2]].add(len(text))
        self._lengths = dict(lengths)  # first two characters -> lengths of the spellings that begin so
        heads = "|".join(re.escape(head) for head in sorted(self._lengths))
        self._candidate = re.compile(f"(?={heads})") if heads else None
        self._prefixes = frozenset(text[:end] for text in self._spellings for end in range(1, len(text)))

    def break_in(self, text: str) -> str:
        """The text with a :data:`BREAK` in every spelling of a control token.

        An end of the text that could be the beginning of a spelling is broken too, as a template may join
        two texts.
        """
        if self._candidate is None:
            return text
        starts = (match.start() for match in self._candidate.finditer(text))
        places = [start + 1 for start in starts if self._spelt_at(text, start)]
        tail = range(max(0, len(text) - self._longest + 1), len(text))
        places += [start + 1 for start in tail if text[start:] in self._prefixes]
        if not places:
            return text
        edges = [0, *sorted(places), len(text)]
        return BREAK.join(text[start:end] for start, end in pairwise(edges))

    def break_in_all(self, value: T) -> T:
        """A copy of nested mappings and sequences (messages, tools) with every string, keys too, broken."""
        return cast("T", self._copy(value))

    def _copy(self, value: object) -> object:
        if isinstance(value, str):
            return self.break_in(value)
        if isinstance(value, Mapping):
            return {self._copy(key): self._copy(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self._copy(item) for item in value]
        return value

    def _spelt_at(self, text: str, start: int) -> bool:
        lengths = self._lengths[text[start : start + 2]]
        return any(text[start : start + length] in self._spellings for length in lengths)
