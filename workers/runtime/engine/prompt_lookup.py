"""Guesses of the next tokens from a sequence's own past. Pure.

If the last few tokens have been there before, what followed them then may follow them now (prompt lookup
decoding, Saxena, 2023). It pays where an answer quotes its prompt or itself, and costs nothing to ask.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

LONGEST: Final = 4
"""Tokens that are looked for first."""
SHORTEST: Final = 2
"""Tokens that are looked for last; one alone says too little."""


class PromptLookup:
    """The tokens of one sequence, to be searched for its end.

    They are kept as bytes, in which a search backwards takes microseconds for thousands of tokens.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._width = array("i").itemsize

    def drafts(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """What followed the latest earlier occurrence of the end of ``tokens``.

        Args:
            tokens: The sequence; what it had at the call before must still be its beginning.
            most: Guesses wanted.

        Returns:
            As many guesses as wanted, or none, as where a picture follows. When what was found runs into the
            end of the sequence, the sequence repeats itself, and so do the guesses.
        """
        self._bytes += array("i", tokens[len(self._bytes) // self._width :]).tobytes()
        for size in range(min(LONGEST, len(tokens) - 1), SHORTEST - 1, -1):
            place = self._earlier(size)
            if place >= 0:
                follows = tokens[place + size : place + size + most]
                if min(follows) < 0:  # a picture, which no answer goes on with
                    return ()
                return tuple(follows[i % len(follows)] for i in range(most))
        return ()

    def _earlier(self, size: int) -> int:
        """Index of the latest earlier occurrence of the last ``size`` tokens; -1 if there is none."""
        needle = self._bytes[-size * self._width :]
        end = len(self._bytes) - 1  # an occurrence must end before the last one does
        while (place := self._bytes.rfind(needle, 0, end)) >= 0:
            if place % self._width == 0:
                return place // self._width
            end = place + len(needle) - 1  # in the middle of tokens
        return -1
