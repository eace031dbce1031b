"""Walks through a grammar's masks: what a model could write at most."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diplex.errors import InvalidRequest
from workers.runtime.structured import Grammar, mask_words
from workers.runtime.text.tokenizer import Tokenizer

Chooser = Callable[[Sequence[int], NDArray[np.int32]], int]
"""Picks the next token from those chosen so far and the mask, int32 ``[ceil(vocab / 32)]``."""


@dataclass(frozen=True)
class Walk:
    """Where a walk led."""

    tokens: tuple[int, ...]
    text: str
    finished: bool
    """Whether the output was whole when the walk ended."""
    failure: str = ""
    """Why it couldn't go on; empty if it could."""


def walk(
    grammar: Grammar,
    tokenizer: Tokenizer,
    vocab_size: int,
    choose: Chooser,
    max_tokens: int,
    *,
    jump: bool = False,
) -> Walk:
    """Walk until the output ends.

    Args:
        grammar: Through what.
        tokenizer: Makes text of the tokens.
        vocab_size: Width of the masks.
        choose: Picks tokens.
        max_tokens: Most tokens.
        jump: Take tokens that are forced without asking.
    """
    matcher = grammar.matcher()
    mask = np.empty(mask_words(vocab_size), np.int32)
    tokens: list[int] = []
    failure = ""
    try:
        while len(tokens) < max_tokens and not matcher.stopped:
            forced = matcher.forced() if jump else ()
            if not forced:
                matcher.fill(mask)
                forced = (choose(tokens, mask),)
            for token in forced:
                matcher.accept(token)
                tokens.append(token)
    except InvalidRequest as error:
        failure = error.message
    return Walk(tuple(tokens), tokenizer.decode(tokens), matcher.stopped and not failure, failure)


class Wanderer:
    """Chooses by chance, as a model would that has nothing to say but knows that answers end.

    With a chance that grows from ``1 / 8`` to nearly one, it ends what is open, if it may: the output before
    brackets, brackets before strings. Else it takes any token of one character, or any at all.

    Args:
        tokenizer: The vocabulary.
        eos_token_ids: Tokens that end the output.
        vocab_size: Width of the masks.
        seed: Makes walks repeatable.
    """

    def __init__(
        self, tokenizer: Tokenizer, eos_token_ids: Sequence[int], vocab_size: int, seed: int
    ) -> None:
        self._random = random.Random(seed)  # noqa: S311  no secret
        self._vocab_size = vocab_size
        spelt: dict[str, list[int]] = {}
        for token in range(tokenizer.vocab_size):
            spelt.setdefault(tokenizer.token(token) or "", []).append(token)
        ends, brackets, quotes = (
            list(eos_token_ids),
            [t for c in "}]" for t in spelt.get(c, ())],
            spelt.get('"', []),
        )
        self._letter = spelt["q"][0]  # Where this may come, a bracket is text.
        self._characters = [token for spelling, same in spelt.items() if len(spelling) == 1 for token in same]
        self._ends = ends, brackets, quotes
        self._ends_of_text = ends, quotes

    def __call__(self, tokens: Sequence[int], mask: NDArray[np.int32]) -> int:
        """The next token."""
        if self._random.random() < 1 - 0.875 * 0.99 ** len(tokens):
            for ends in self._ends_of_text if _may(mask, self._letter) else self._ends:
                allowed = [token for token in ends if _may(mask, token)]
                if allowed:
                    return self._random.choice(allowed)
        if self._random.random() < 0.5:
            allowed = [token for token in self._characters if _may(mask, token)]
            if allowed:
                return self._random.choice(allowed)
        allowed = np.flatnonzero(
            np.unpackbits(mask.view(np.uint8), count=self._vocab_size, bitorder="little")
        )
        return int(self._random.choice(allowed))


def _may(mask: NDArray[np.int32], token: int) -> bool:
    return bool(mask[token // 32] >> (token % 32) & 1)
