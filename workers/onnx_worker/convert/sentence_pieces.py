"""SentencePiece vocabularies with scores (``tokenizer.ggml.model = llama``) as byte-pair merges.

SentencePiece joins the two neighbours whose union has the highest score, again and again. A list of merges in
the order of those scores says the same. Characters without a piece become bytes. Kudo and Richardson, 2018,
https://arxiv.org/abs/1808.06226.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import gguf
from tokenizers import Tokenizer, decoders, models, normalizers

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.gguf_file import GgufFile

_SPACE: Final = "\u2581"
"""How pieces spell a space."""


def sentence_pieces(file: GgufFile, vocabulary: dict[str, int], kinds: Sequence[int]) -> Tokenizer:
    """Build the tokenizer of a vocabulary with scores, without its added tokens.

    Args:
        file: For scores, and how text is prepared.
        vocabulary: Token -> id.
        kinds: Their types, by id.

    Raises:
        UnsupportedModel: The vocabulary is inconsistent.
    """
    scores: list[float] = file.require("tokenizer.ggml.scores", list)
    if len(scores) != len(kinds):
        raise UnsupportedModel(f"{file.path.name}: {len(kinds)} tokens, and {len(scores)} scores")
    pieces = [piece for piece, number in vocabulary.items() if kinds[number] == gguf.TokenType.NORMAL]
    pieces.sort(key=lambda piece: -scores[vocabulary[piece]])
    unknown = next((token for token, i in vocabulary.items() if kinds[i] == gguf.TokenType.UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=list(_merges(pieces)),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # Files that don't say otherwise begin a text with a space, as SentencePiece does by default.
    prefixed = file.get("tokenizer.ggml.add_space_prefix", bool) is not False
    spelling: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    reading = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefixed:
        spelling.insert(0, normalizers.Prepend(_SPACE))
        reading.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spelling)
    tokenizer.decoder = decoders.Sequence(reading)
    return tokenizer


def _merges(pieces: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every way to cut a piece into two pieces, the best piece's first."""
    known = set(pieces)
    for piece in pieces:
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in known and right in known:
                yield left, right
