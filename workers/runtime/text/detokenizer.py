"""Token ids to text while they are being generated, without ever emitting half a character.

Why not ``tokenizers.decoders.DecodeStream`` (0.23): it raises "Invalid prefix" on byte sequences that are no
UTF-8, has no way to get at the text that it still holds at the end, and decodes all of that again with each
token while it ends in U+FFFD, so that garbage costs quadratic time.

There are two ways, by what the vocabulary is made of:

- Byte-level BPE, the common case: tokens are looked up as bytes and go through Python's incremental UTF-8
  decoder. It replaces invalid bytes just as the tokenizer does on the whole text (one U+FFFD for each maximal
  subpart; Unicode standard, section 3.9), as soon as they are certain to be invalid.
- Everything else: a short window, the last few tokens and the new ones, is decoded, and what goes beyond the
  text of the former is new. The former are there since a token's text may depend on what is before it, as
  with a leading space that is stripped. A run of fallback bytes (``<0xE2>``) is held until it ends, as the
  decoder replaces all of a run in which any byte is invalid.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Final, Protocol

from workers.runtime.text.tokenizer import FALLBACK_BYTE, Decoding, Tokenizer

_CONTEXT: Final = 4
"""Tokens of context in a window. One is enough for the decoders known; more costs next to nothing."""
_HELD_MOST: Final = 4
"""Tokens held back for a text that ends in U+FFFD: no UTF-8 character is longer than four bytes."""


class Detokenizer:
    """Incremental decoding of one sequence, control tokens left out.

    The join of everything returned is ``tokenizer.decode(all ids)``, however the ids are spread over the
    calls. Each token costs constant time, amortised. Where a decoder rewrites the text of earlier tokens in
    other ways than those above, text already emitted stays as it is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._stream: _Stream = (
            _Bytes(tokenizer) if tokenizer.decoding is Decoding.BYTES else _Window(tokenizer)
        )

    def push(self, token_ids: Sequence[int]) -> str:
        """Take the next ids; return the text that has become final, which may be empty."""
        return self._stream.push(token_ids)

    def flush(self) -> str:
        """End the sequence; return the text held back. What was half a character is U+FFFD now."""
        return self._stream.flush()


class _Stream(Protocol):
    def push(self, token_ids: Sequence[int]) -> str: ...
    def flush(self) -> str: ...


class _Bytes:
    """Byte-level vocabularies."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_ids: Sequence[int]) -> str:
        return self._utf8.decode(b"".join(map(self._bytes_of, token_ids)))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)

    def _bytes_of(self, token_id: int) -> bytes:
        if token_id in self._tokenizer.special_ids:
            return b""
        return self._tokenizer.token_bytes(token_id)


class _Window:
    """All other vocabularies."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._context: list[int] = []  # ids whose text is out
        self._held: list[int] = []  # ids whose text isn't

    def push(self, token_ids: Sequence[int]) -> str:
        known = ((token_id, self._tokenizer.token(token_id)) for token_id in token_ids)
        visible = [
            (i, token) for i, token in known if token is not None and i not in self._tokenizer.special_ids
        ]
        if not visible:
            return ""
        self._held += [token_id for token_id, _ in visible]
        if self._tokenizer.decoding is Decoding.FALLBACK and FALLBACK_BYTE.fullmatch(visible[-1][1]):
            return ""
        return self._advance(may_hold=True)

    def flush(self) -> str:
        return self._advance(may_hold=False)

    def _advance(self, *, may_hold: bool) -> str:
        """Emit the text of the tokens held and make them context, unless their text may still change."""
        before = self._tokenizer.decode(self._context)
        text = self._tokenizer.decode(self._context + self._held)
        if may_hold and text.endswith("\ufffd") and len(self._held) < _HELD_MOST:
            return ""
        self._context = (self._context + self._held)[-_CONTEXT:]
        self._held = []
        return text[len(before) :]
