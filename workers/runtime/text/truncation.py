"""Shortening a conversation: whole turns go, the oldest first. Pure.

What stands before the first user message, such as a system message, stays. A turn is a user message with all
that follows it up to the next one: answers, calls of tools and their results. The last turn stays.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

Messages = Sequence[Mapping[str, object]]


def fitted(messages: Messages, fits: Callable[[Messages], bool]) -> tuple[Messages, int]:
    """A conversation without as many of its oldest turns as it takes to fit.

    Args:
        messages: With ``role``, in their order.
        fits: Whether a conversation does. One that has fewer of the turns must not be longer. Called once for
            a conversation that fits, else a few times more than the logarithm of the number of turns.

    Returns:
        What is left, and how many messages were dropped. If nothing fits, only the last turn is left.
    """
    if fits(messages):
        return messages, 0
    begins = [index for index, message in enumerate(messages) if message["role"] == "user"]
    if len(begins) < 2:  # noqa: PLR2004  # the last turn stays
        return messages, 0

    def without(turns: int) -> Messages:
        return [*messages[: begins[0]], *messages[begins[turns] :]]

    turns = bisect_left(range(len(begins) - 1), x=True, lo=1, key=lambda n: fits(without(n)))
    left = without(turns)
    return left, len(messages) - len(left)
