"""Bringing JSON to its end while there is still room: what is open is closed as soon as it may be."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.runtime.structured.masks import mask_words

_QUOTE: Final = re.compile(rb'"[\s\]}]*')
_MARKS: Final = re.compile(rb"[:@/]+")
"""What strings of some formats can't end without, as addresses."""
_BRACKETS: Final = re.compile(rb"\s*[\]}][\s\]}]*")
_COMMAS: Final = re.compile(rb",\s*")
"""What ends a number behind which there must be more."""


class Closing:
    """The tokens of a vocabulary that close something.

    Args:
        token_bytes: What a token stands for.
        vocab_size: Width of the logits.
        eos_token_ids: Tokens that end a sequence.
    """

    def __init__(
        self, token_bytes: Callable[[int], bytes], vocab_size: int, eos_token_ids: Iterable[int]
    ) -> None:
        spelt = [token_bytes(token) for token in range(vocab_size)]

        def spelt_as(pattern: re.Pattern[bytes]) -> NDArray[np.int32]:
            return _mask(vocab_size, (i for i, text in enumerate(spelt) if pattern.fullmatch(text)))

        ends = _mask(vocab_size, eos_token_ids)
        self._in_string = (ends, spelt_as(_QUOTE), spelt_as(_MARKS))
        self._outside = (ends, spelt_as(_BRACKETS), spelt_as(_COMMAS))

    def narrow(self, mask: NDArray[np.int32], place: JsonPlace) -> None:
        """Leave the tokens that end or close something, in place, if some of those may come.

        Args:
            mask: int32 ``[ceil(vocab / 32)]``: the tokens that may come.
            place: Where in the JSON they would.
        """
        for closers in self._in_string if place.in_string else self._outside:
            closing = mask & closers
            if closing.any():
                mask[:] = closing
                return


class JsonPlace:
    """Whether JSON text ends inside a string."""

    def __init__(self) -> None:
        self.in_string = False
        self._escaped = False

    def go_on(self, text: bytes) -> None:
        """Take the next bytes."""
        for byte in text:
            if self._escaped:
                self._escaped = False
            elif self.in_string and byte == ord("\\"):
                self._escaped = True
            elif byte == ord('"'):
                self.in_string = not self.in_string


def _mask(vocab_size: int, tokens: Iterable[int]) -> NDArray[np.int32]:
    bits = np.zeros(mask_words(vocab_size) * 32, np.uint8)
    bits[[token for token in tokens if token < vocab_size]] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)
