"""What holds a choice to a grammar: from its first token, or from where it begins to call a tool."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from workers.runtime.generation import FinishReason
from workers.runtime.structured import Closing, Grammar, JsonPlace, Matcher
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.tools.answers import AnswerReader, Place
from workers.runtime.tools.definitions import ToolUse
from workers.runtime.tools.forms import CallForm
from workers.runtime.tools.reading import ToolCallPiece


class Constraint:
    """One choice's way through the grammar of its output.

    Args:
        grammar: Of the output.
        tokenizer: The model's.
        closing: Closes what is open when little room is left; ``None`` for an output that isn't JSON.
    """

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, closing: Closing | None) -> None:
        self._closing = closing
        self._place = JsonPlace()
        self._grammar = grammar
        self._tokenizer = tokenizer
        self.matcher: Matcher | None = None
        """Says which tokens may come; ``None`` while there is no such rule."""
        self.forced: deque[int] = deque()
        """The next tokens, where there is no choice."""
        self._prepare()

    @property
    def over(self) -> FinishReason | None:
        """Why nothing can follow; ``None`` as long as something can."""
        if self.matcher is not None and self.matcher.stopped:
            return FinishReason.END_OF_SEQUENCE
        return None

    @property
    def called(self) -> bool:
        """Whether tools were called, so that the end of the sequence ends the calls."""
        return False

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

    def read(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """Takes the next text. Returns what of it is text for the reader, and what it adds to a call."""
        return text, ()

    def flush(self) -> str:
        """Text that was held back."""
        return ""

    def _prepare(self) -> None:
        """Gets ready for the first token."""
        self._begin()

    def _begin(self) -> None:
        """Holds what follows to the grammar."""
        self._place = JsonPlace()
        self.matcher = self._grammar.matcher()
        self.forced.extend(self.matcher.forced())


class CallConstraint(Constraint):
    """One choice's way through an answer that may call tools. Each call, or the list of them, is held.

    Args:
        grammar: Of a call, or of a list of calls if the form has one.
        tools: How tools are used.
        form: How calls are written.
        tokenizer: The model's.
        closing: Closes what is open when little room is left.
    """

    def __init__(
        self,
        grammar: Grammar,
        tools: ToolUse,
        form: CallForm,
        tokenizer: Tokenizer,
        closing: Closing | None,
    ) -> None:
        self._form = form
        self._required = tools.required
        self._reader = AnswerReader(form, single=tools.single, required=tools.required)
        self._opening_id = tokenizer.id_of(form.opening) if form.opening else None
        self._begins_next = False  # behind what is forced
        super().__init__(grammar, tokenizer, closing)

    @property
    def over(self) -> FinishReason | None:
        """Why nothing can follow; ``None`` as long as something can."""
        return FinishReason.TOOL_CALLS if self._reader.place is Place.END else None

    @property
    def called(self) -> bool:
        """Whether tools were called, so that the end of the sequence ends the calls."""
        return self._reader.complete

    def accept(self, token: int) -> None:
        """Goes on by a token.

        Raises:
            DiplexError: The grammar can't go on behind it.
        """
        held = self.matcher is not None
        super().accept(token)
        if held:
            self._finish_call()
        elif self._begins_next and not self.forced:
            self._begins_next = False
            self._begin()
        elif token == self._opening_id and not self._tokenizer.decode([token]):
            self._reader.opened()
            self._begin()

    def read(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """Takes the next text. Returns what of it is text for the reader, and what it adds to calls."""
        before = self._reader.calls, self._reader.place
        told, pieces = self._reader.push(text)
        after = self._reader.place
        if self.matcher is None and not self._begins_next and not self.forced:
            if after is Place.BEFORE_CALL and before[1] is not after:
                self._lead(text)
            elif self._reader.calls > before[0] and after is Place.CALL:
                self._catch_up(self._reader.json)
        return told, pieces

    def flush(self) -> str:
        """Text that was held back, since it could have become a call."""
        return self._reader.flush()

    def _prepare(self) -> None:
        if not self._required:
            return
        if not self._form.bare:
            self.forced.extend(self._tokenizer.encode(self._form.opening))
        else:
            self._begin()

    def _lead(self, text: str) -> None:
        """Behind an opening, the grammar begins, or what the model is used to write before."""
        if self._form.lead and text.endswith(self._form.opening[-1]):
            self.forced.extend(self._tokenizer.encode(self._form.lead))
            self._begins_next = True
        else:
            self._begin()

    def _catch_up(self, begun: str) -> None:
        """Holds a call that some token has begun already, unless the grammar can't take that in."""
        tokens = self._tokenizer.encode(begun)
        matcher = self._grammar.matcher()
        if matcher.allowed(tokens) < len(tokens):
            return
        self._begin()
        self.forced.clear()
        for token in tokens:
            super().accept(token)

    def _finish_call(self) -> None:
        """Behind the JSON of a call, the model is free again, once it has written what closes the call."""
        if self.matcher is None or not self.matcher.finished or not self._form.closing:
            return
        self.matcher = None
        self.forced.clear()
        self.forced.extend(self._tokenizer.encode(self._form.closing))
