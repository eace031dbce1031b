"""What holds a choice to a grammar: from its first token, or from where it begins to call a tool."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from workers.runtime.generation import FinishReason
from workers.runtime.structured import Closing, Grammar, JsonPlace, Matcher
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.tools.definitions import ToolUse
from workers.runtime.tools.reading import OPENING, CallReader, Opening, ToolCallPiece


class Constraint:
    """One choice's way through a grammar, and the call that it is if tools are used.

    A choice calls at most one tool: with the call it ends.

    Args:
        grammar: Of the output, or of a call.
        tools: How tools are used; ``None`` if the grammar is that of the output.
        tokenizer: The model's.
        closing: Closes what is open when little room is left; ``None`` for an output that isn't JSON.
    """

    def __init__(
        self, grammar: Grammar, tools: ToolUse | None, tokenizer: Tokenizer, closing: Closing | None
    ) -> None:
        self._closing = closing
        self._place = JsonPlace()
        self._grammar = grammar
        self._tokenizer = tokenizer
        self._begins_next = False  # behind what is forced
        self._opening: Opening | None = None
        self._call: CallReader | None = None
        self.matcher: Matcher | None = None
        """Says which tokens may come; ``None`` while there is no such rule."""
        self.forced: deque[int] = deque()
        """The next tokens, where there is no choice."""
        if tools is None:
            self._begin()
        elif not tools.own_format:
            self._call = CallReader()
            self._begin()
        else:
            self._opening = Opening()
            if tools.required:
                self.forced.extend(tokenizer.encode(OPENING))

    @property
    def over(self) -> FinishReason | None:
        """Why nothing can follow; ``None`` as long as something can."""
        if self._call is not None and self._call.done:
            return FinishReason.TOOL_CALLS
        if self.matcher is not None and self.matcher.stopped:
            return FinishReason.END_OF_SEQUENCE
        return None

    def fill(self, mask: NDArray[np.int32], *, little_room: bool) -> bool:
        """Writes which tokens may come next; False if all may.

        Args:
            mask: int32 ``[ceil(vocab / 32)]``.
            little_room: Whether it is time to come to an end.

        Raises:
            DiplexError: No token may come.
        """
        if self.matcher is None:
            return False
        self.matcher.fill(mask)
        if little_room and self._closing is not None:
            self._closing.narrow(mask, self._place)
        return True

    def accept(self, token: int) -> None:
        """Goes on by a token.

        Raises:
            DiplexError: The grammar can't go on behind it.
        """
        if self.forced:
            self.forced.popleft()
        if self.matcher is not None:
            self.matcher.accept(token)
            self._place.go_on(self._tokenizer.token_bytes(token))
            if not self.forced:
                self.forced.extend(self.matcher.forced())
        elif self._begins_next and not self.forced:
            self._begin()

    def read(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """Takes the next text. Returns what of it is text for the reader, and what it adds to a call."""
        if self._call is not None:
            return "", self._call.push(text)
        if self._opening is None:
            return text, ()
        before, behind = self._opening.push(text)
        if behind is None:
            return before, ()
        self._opening = None
        self._call = CallReader()
        if not behind:
            self.forced.extend(self._tokenizer.encode("\n"))
            self._begins_next = True
        elif behind.isspace():
            self._begin()
        # Else a token has the call's first characters too: no grammar can begin behind it, only the reader.
        return before, self._call.push(behind)

    def flush(self) -> str:
        """Text that was held back, since it could have become the opening of a call."""
        return self._opening.flush() if self._opening else ""

    def _begin(self) -> None:
        self.matcher = self._grammar.matcher()
        self.forced.extend(self.matcher.forced())
