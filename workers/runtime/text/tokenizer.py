"""A model's tokenizer: text to token ids and back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import tokenizers

from diplex.errors import InvalidRequest, UnsupportedModel
from workers.runtime.text.control import BREAK, ControlText

_SPACE: Final = "\u2581"
"""How SentencePiece spells a space."""
FALLBACK_BYTE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""How it spells a byte that no token has."""


class Decoding(Enum):
    """How the tokens of a vocabulary turn into text, as far as incremental decoding must know."""

    BYTES = "bytes"
    """Each token stands for bytes, spelt in GPT-2's alphabet; their concatenation is UTF-8."""
    FALLBACK = "fallback"
    """Tokens are text, except for ``<0xNN>``; a run of those is one piece of UTF-8."""
    TEXT = "text"
    """Tokens are text."""


class Tokenizer:
    """A Hugging Face fast tokenizer, with truncation and padding off. Safe to use from several threads.

    Args:
        backend: The tokenizer. It is taken over: don't change it afterwards.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        added = backend.get_added_tokens_decoder()
        self.special_ids = frozenset(token_id for token_id, token in added.items() if token.special)
        """Ids of the control tokens, which decoding leaves out."""
        self.control = ControlText(token.content for token in added.values() if token.special)
        """Breaks spellings of control tokens in text that isn't trusted; its module says why."""
        self.vocab_size = backend.get_vocab_size(with_added_tokens=True)
        """Number of tokens, added ones included. Logits are wider where a model pads its vocabulary."""
        self.decoding = _decoding_of(json.loads(backend.to_str())["decoder"])
        """How tokens turn into text."""

    @classmethod
    def from_file(cls, path: Path) -> Tokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            UnsupportedModel: The file is missing, or no tokenizer that this ``tokenizers`` can read.
        """
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # The library raises nothing more specific.
            raise UnsupportedModel(f"can't read the tokenizer {path.name}: {error}") from error
        return cls(backend)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The token ids of a text.

        Spellings of control tokens become control tokens, as chat templates need it, unless
        ``control.break_in`` broke them. So render templates over ``control.break_in_all(messages)``, and
        encode a raw prompt that isn't trusted as ``encode(control.break_in(prompt))``.

        Args:
            text: Any text.
            add_special_tokens: Add what the model wants around a raw prompt, as BOS. Leave it off for
                rendered chat templates, which write these themselves.

        Raises:
            InvalidRequest: The text can't be encoded as UTF-8 (lone surrogates).
        """
        try:
            parts = [self._backend.encode(part, add_special_tokens=False) for part in text.split(BREAK)]
        except (TypeError, UnicodeEncodeError) as error:
            raise InvalidRequest("the text holds characters that can't be encoded as UTF-8") from error
        whole = parts[0] if len(parts) == 1 else tokenizers.Encoding.merge(parts, growing_offsets=True)
        if add_special_tokens:
            whole = self._backend.post_process(whole, pair=None, add_special_tokens=True)
        return list(whole.ids)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of a whole sequence. ``Detokenizer`` does it piecewise."""
        return str(self._backend.decode(token_ids, skip_special_tokens=skip_special_tokens))

    def to_json(self) -> str:
        """The whole tokenizer, as a ``tokenizer.json`` holds it."""
        return str(self._backend.to_str())

    def id_of(self, token: str) -> int | None:
        """The id of a token by its spelling in the vocabulary; ``None`` if there is none."""
        return self._backend.token_to_id(token)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token stands for, which need not be whole characters; none for an unknown id."""
        token = self.token(token_id) or ""
        if self.decoding is Decoding.BYTES:
            try:
                return bytes([BYTE_OF[character] for character in token])
            except KeyError:  # An added token, spelt as it reads.
                return token.encode()
        if fallback := FALLBACK_BYTE.fullmatch(token):
            return bytes([int(fallback[1], 16)])
        return token.replace(_SPACE, " ").encode()

    def token(self, token_id: int) -> str | None:
        """A token's spelling in the vocabulary; ``None`` for ids that the vocabulary doesn't have."""
        return self._backend.id_to_token(token_id)


def _decoding_of(decoder: dict[str, object] | None) -> Decoding:
    """The kind of a decoder, from its description in ``tokenizer.json``."""
    kinds = _kinds(decoder)
    if kinds and set(kinds) <= {"ByteLevel", "Fuse"}:
        return Decoding.BYTES
    return Decoding.FALLBACK if "ByteFallback" in kinds else Decoding.TEXT


def _kinds(decoder: dict[str, object] | None) -> list[object]:
    if decoder is None:
        return []
    members = decoder.get("decoders")
    if not isinstance(members, list):
        return [decoder["type"]]
    return [kind for member in members for kind in _kinds(member)]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's spelling of bytes: printable Latin-1 stands for itself, the others count up from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF: Final = _byte_alphabet()
