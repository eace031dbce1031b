"""Stop strings: generation ends before the first of them, and no part of it is emitted."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Looks for stop strings in text that arrives in pieces.

    The stop that is complete first wins, as if text arrived a character at a time; among those complete at
    the same character, the longest. So no decision waits for text that a longer stop would need, and how the
    text is cut into pieces makes no difference. Characters are compared as code points, not normalised.

    Each character costs constant time for each stop (Knuth, Morris and Pratt, 1977).

    Args:
        stops: The stop strings. Duplicates are fine.

    Raises:
        ValueError: A stop string is empty. Validation of requests comes before this.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("a stop string is empty")
        # Longest first, so that the first one complete at a character is the one that wins.
        self._automata = [_Automaton(stop) for stop in sorted(set(stops), key=len, reverse=True)]
        self._held = ""
        self._matched: str | None = None

    def push(self, text: str) -> tuple[str, str | None]:
        """Take the next piece of text.

        Returns:
            The text that is certain to lie before any stop, and the stop that was found or ``None``. After a
            stop was found, all further text is dropped.
        """
        if self._matched is not None:
            return "", self._matched
        if not self._automata:
            return text, None
        pending = self._held + text
        for position, character in enumerate(text, start=len(self._held) + 1):
            stop = self._advance(character)
            if stop is not None:
                self._matched, self._held = stop, ""
                return pending[: position - len(stop)], stop
        cut = len(pending) - max(automaton.matched for automaton in self._automata)
        self._held = pending[cut:]
        return pending[:cut], None

    def flush(self) -> str:
        """End the text; return what was held back since it could have been the beginning of a stop."""
        held, self._held = self._held, ""
        return held

    def _advance(self, character: str) -> str | None:
        """Move every automaton on by a character; the longest stop that is complete with it."""
        found = None
        for automaton in self._automata:
            if automaton.advance(character) and found is None:
                found = automaton.stop
        return found


class _Automaton:
    """One stop string, and how much of its beginning the text ends in."""

    __slots__ = ("_borders", "matched", "stop")

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.matched = 0
        self._borders = _borders(stop)

    def advance(self, character: str) -> bool:
        """Whether the text, with this character, ends in the stop string. Once it does, it is over."""
        while self.matched and self.stop[self.matched] != character:
            self.matched = self._borders[self.matched - 1]
        if self.stop[self.matched] == character:
            self.matched += 1
        return self.matched == len(self.stop)


def _borders(text: str) -> list[int]:
    """For each prefix of the text, the length of its longest proper prefix that is its suffix too."""
    borders = [0] * len(text)
    length = 0
    for i in range(1, len(text)):
        while length and text[i] != text[length]:
            length = borders[length - 1]
        if text[i] == text[length]:
            length += 1
        borders[i] = length
    return borders
