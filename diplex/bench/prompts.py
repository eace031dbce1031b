"""Prompts as token ids: English of an exact length, another one for each request.

No two begin alike, so that what the server holds of earlier prompts helps none. The text is made of sentences
that are drawn by lot, and it is cut into short pieces that each prompt has in an order of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle
from typing import Final

from diplex.bench.doors import Door

_ADJECTIVES: Final = (
    *("old", "quiet", "green", "narrow", "early", "heavy", "distant", "careful", "broken", "bright", "late"),
    *("wooden", "hungry", "patient", "strange", "yellow", "empty", "famous", "gentle", "northern", "salty"),
)
_NOUNS: Final = (
    *("harbour", "teacher", "engine", "letter", "garden", "river", "window", "doctor", "market", "violin"),
    *("captain", "bridge", "recipe", "winter", "station", "library", "farmer", "island", "coat", "machine"),
    *("neighbour", "lantern", "orchard", "museum", "sailor", "kitchen", "forest", "newspaper", "tower"),
)
_VERBS: Final = (
    *("opens", "remembers", "carries", "repairs", "follows", "paints", "sells", "watches", "describes"),
    *(
        "leaves",
        "crosses",
        "measures",
        "needs",
        "hides",
        "answers",
        "builds",
        "reaches",
        "borrows",
        "forgets",
    ),
)
_BEHIND: Final = (
    "before the rain",
    "in the morning",
    "near the border",
    "without a word",
    "for the third time",
)

_SENTENCES: Final = 40
_TEXTS: Final = 3
"""Pieces in which the text goes to the gateway; each has about 500 tokens, which any context holds."""
_PIECE: Final = 16
"""Tokens that stay together."""


class PromptBook:
    """Writes prompts.

    Args:
        ids: Token ids of a text.
        seed: The same seed gives the same prompts.
    """

    def __init__(self, ids: Sequence[int], seed: int) -> None:
        self._pieces = [ids[at : at + _PIECE] for at in range(0, len(ids), _PIECE)]
        self._seed = seed

    @classmethod
    async def of(cls, door: Door, seed: int) -> PromptBook:
        """Has the gateway make token ids of a text.

        Raises:
            Refused: It didn't.
        """
        draw = random.Random(seed)  # noqa: S311  # words
        ids: list[int] = []
        for _ in range(_TEXTS):
            ids += await door.token_ids(" ".join(_sentence(draw) for _ in range(_SENTENCES)))
        return cls(ids, seed)

    def prompt(self, length: int, number: int) -> list[int]:
        """The prompt of a request: exactly ``length`` tokens, at least one."""
        draw = random.Random(f"{self._seed}/{number}")  # noqa: S311  # order
        prompt: list[int] = []
        for piece in cycle(draw.sample(self._pieces, len(self._pieces))):
            prompt += piece
            if len(prompt) >= length:
                break
        return prompt[:length]


def _sentence(draw: random.Random) -> str:
    first, second = draw.sample(_NOUNS, 2)
    one, other = draw.sample(_ADJECTIVES, 2)
    return f"The {one} {first} {draw.choice(_VERBS)} the {other} {second} {draw.choice(_BEHIND)}."
