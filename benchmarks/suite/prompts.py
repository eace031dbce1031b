"""Prompts as token ids: natural text of an exact length, another one for each client and round.

Every prompt opens in its own way, so that a cache of prefixes finds nothing to share, except where a cell is
about just that. Behind the opening stand sentences of a fixed text in an order drawn from the prompt's own
seed, and none is repeated within about two thousand tokens: a guess at the next tokens from earlier ones has
as much to go by as in any text, and no more.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tokenizers

from workers.runtime.fidelity.text import fixed_text

_NAMES = ("Ada", "Boris", "Chen", "Dora", "Emil", "Farah", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
_PLACES = (
    "Lisbon",
    "Oslo",
    "Quito",
    "Kyoto",
    "Tunis",
    "Riga",
    "Perth",
    "Turin",
    "Dakar",
    "Minsk",
    "Sofia",
    "Lima",
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat that is replayed: what has been said is the same for every server, whatever it answers."""

    prompts: list[list[int]]
    """Of each turn: everything before it, and the user's new message."""


class PromptBook:
    """Writes prompts.

    Args:
        tokenizer: A ``tokenizer.json``.
    """

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer))
        text = " ".join(fixed_text().content.split())
        self._sentences = re.split(r"(?<=[.!?;]) ", text)

    def prompt(self, length: int, *seed: object) -> list[int]:
        """A text of exactly ``length`` tokens. The same seed gives the same text.

        Args:
            length: At least 24 tokens.
            seed: What distinguishes it, as cell, round, client.
        """
        opening = self._encode(_opening(seed))
        body: list[int] = []
        sentences = self._shuffled(seed)
        while len(body) < length:
            body += self._encode(" " + next(sentences))
        return (opening + body)[:length]

    def conversation(
        self, turns: int, system_length: int, message_length: int, *seed: object
    ) -> Conversation:
        """A chat under a system message that all chats share.

        Args:
            turns: Messages of the user.
            system_length: Tokens of the system message.
            message_length: Tokens of each message of the user, and of each answer.
            seed: What distinguishes it.
        """
        begin, end = self._encode("<|im_start|>"), self._encode("<|im_end|>\n")
        system, user, assistant = (self._encode(f"{role}\n") for role in ("system", "user", "assistant"))
        so_far = begin + system + self.prompt(system_length, "system") + end
        prompts = []
        for turn in range(turns):
            message = self.prompt(message_length, *seed, turn, "user")
            so_far = so_far + begin + user + message + end + begin + assistant
            prompts.append(so_far)
            so_far = so_far + self.prompt(message_length, *seed, turn, "assistant") + end
        return Conversation(prompts)

    def _shuffled(self, seed: tuple[object, ...]) -> Iterator[str]:
        draw = random.Random(repr(seed))  # noqa: S311  # order of sentences
        while True:
            yield from draw.sample(self._sentences, len(self._sentences))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def _opening(seed: tuple[object, ...]) -> str:
    draw = random.Random(repr(seed))  # noqa: S311  # words
    number, name, place = draw.randrange(10_000), draw.choice(_NAMES), draw.choice(_PLACES)
    return f"{number:04} letters from {place}, collected by {name}."
