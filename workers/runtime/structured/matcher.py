"""One sequence's way through a grammar."""

from __future__ import annotations

from collections.abc import Sequence

import llguidance
import numpy as np
from numpy.typing import NDArray

from diplex.errors import InternalError, InvalidRequest


class Matcher:
    """Says which tokens may follow those that a sequence has generated. Belongs to one thread at a time.

    Args:
        matcher: The library's matcher, at the beginning of the grammar; taken over.
        field: Field of the request that named the grammar, for errors.
    """

    def __init__(self, matcher: llguidance.LLMatcher, field: str) -> None:
        self._matcher = matcher
        self._field = field

    @property
    def finished(self) -> bool:
        """Whether what was accepted is a whole output, which may end here."""
        return self._matcher.is_accepting()

    @property
    def stopped(self) -> bool:
        """Whether it must end here: only the end of the sequence may follow, or has."""
        return self._matcher.is_stopped()

    def fill(self, mask: NDArray[np.int32]) -> None:
        """Write which tokens may come next. Drops the GIL.

        Args:
            mask: int32 ``[ceil(vocab / 32)]``, contiguous; bit ``i % 32`` of word ``i // 32`` is token ``i``.

        Raises:
            InvalidRequest: No token may come, as where the grammar leads into a dead end, or what comes next
                is too costly to work out. The sequence can't go on.
        """
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        if self._matcher.is_error():
            raise self.failure()

    def accept(self, token: int) -> None:
        """Go on by a token.

        Raises:
            InternalError: The token may not come here.
            InvalidRequest: What comes next is too costly to work out.
        """
        if not self._matcher.validate_tokens([token]):
            if self._matcher.is_error():
                raise self.failure()
            raise InternalError(f"token {token} is not what the grammar allows here")
        if not self._matcher.consume_token(token):
            raise self.failure()

    def allowed(self, tokens: Sequence[int]) -> int:
        """How many of these tokens, from the first, could be accepted one after the other. Accepts none."""
        return self._matcher.validate_tokens(list(tokens))

    def forced(self) -> tuple[int, ...]:
        """The next tokens where only one text can follow; empty where there is a choice.

        They are those that the tokenizer would make of that text, without such as further text could change.
        They are not accepted yet. The end of a sequence is not among them: see :attr:`stopped`.
        """
        return () if self.stopped else tuple(self._matcher.compute_ff_tokens())

    def clone(self) -> Matcher:
        """Another way through the grammar, from here."""
        return Matcher(self._matcher.deep_copy(), self._field)

    def failure(self) -> InvalidRequest:
        """What the library says went wrong, as the caller's error."""
        reason = self._matcher.get_error().strip().partition("\n")[0]
        return InvalidRequest.of_field(self._field, f"the output can't go on: {reason}")
