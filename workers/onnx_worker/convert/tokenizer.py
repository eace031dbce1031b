"""The tokenizer that a GGUF file carries, as a Hugging Face ``tokenizers`` object.

Byte-level BPE (``tokenizer.ggml.model = gpt2``), or pieces with scores (``llama``:
:mod:`~workers.onnx_worker.convert.sentence_pieces`). Which rule cuts a text into words before byte-level
merges is named by ``tokenizer.ggml.pre``; each rule below is the one of that model family's own published
tokenizer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.gguf_file import GgufFile
from workers.onnx_worker.convert.sentence_pieces import sentence_pieces

_WORDS: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_WORDS: Final = _WORDS.replace("DIGITS", "{1,3}")
_QWEN2_WORDS: Final = _WORDS.replace("DIGITS", "")


@dataclass(frozen=True, slots=True)
class _Rule:
    """How one family of models prepares text for its merges."""

    words: str | None
    """Pattern of a word; ``None`` for GPT-2's own, which ``ByteLevel`` has built in."""
    single_digits: bool = False
    """Whether every digit is a word of its own."""
    whole_words: bool = False
    """Whether a word that is a token needs no merges (``ignore_merges``)."""
    compose: bool = False
    """Whether text is brought into Unicode's composed form (NFC) first."""
    adds_bos: bool = False
    """Whether a plain prompt starts with the begin-of-sequence token if the file doesn't say."""


_GPT2: Final = _Rule(words=None)
_SMOLLM: Final = _Rule(words=None, single_digits=True)
_LLAMA3: Final = _Rule(words=_LLAMA3_WORDS, whole_words=True, adds_bos=True)
_QWEN2: Final = _Rule(words=_QWEN2_WORDS, compose=True)
RULES: Final = {
    "gpt-2": _GPT2,
    "smollm": _SMOLLM,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": _QWEN2,
}
"""``tokenizer.ggml.pre`` -> rule."""


def build_tokenizer(file: GgufFile) -> Tokenizer:
    """Build the tokenizer that ``file`` describes.

    Control tokens such as ``<|im_start|>`` are special: found in text, encoded as one token, left out of
    decoded text. Tokens that the file calls user-defined are found the same way and stay in decoded text.
    Nothing is added to a text by itself; see :func:`adds_bos`.

    Raises:
        UnsupportedModel: The vocabulary is of another kind, or inconsistent.
    """
    kind = file.require("tokenizer.ggml.model", str)
    tokens: list[str] = file.require("tokenizer.ggml.tokens", list)
    kinds: list[int] = file.require("tokenizer.ggml.token_type", list)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens) or len(kinds) != len(tokens):
        raise UnsupportedModel(f"{file.path.name}: the tokenizer has repeated tokens, or types for others")
    match kind:
        case "gpt2":
            tokenizer = _byte_level(file, vocabulary)
        case "llama":
            tokenizer = sentence_pieces(file, vocabulary, kinds)
        case _:
            message = (
                f"{file.path.name} has a tokenizer of kind {kind!r}, which can't be converted; supported are "
                "byte-level BPE (tokenizer.ggml.model = gpt2) and SentencePiece with scores (llama)"
            )
            raise UnsupportedModel(message)
    tokenizer.add_special_tokens(_added(tokens, kinds, gguf.TokenType.CONTROL))
    tokenizer.add_tokens(_added(tokens, kinds, gguf.TokenType.USER_DEFINED))
    return tokenizer


def adds_bos(file: GgufFile) -> bool:
    """Return whether a plain prompt must start with the begin-of-sequence token."""
    stated = file.get("tokenizer.ggml.add_bos_token", bool)
    if stated is not None:
        return stated
    return file.get("tokenizer.ggml.model", str) == "llama" or _find_rule(file).adds_bos


def _byte_level(file: GgufFile, vocabulary: dict[str, int]) -> Tokenizer:
    rule = _find_rule(file)
    merges: list[str] = file.require("tokenizer.ggml.merges", list)
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    if any(" " in right for _, right in pairs):
        raise UnsupportedModel(f"{file.path.name}: the tokenizer has malformed merges")
    try:
        model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=rule.whole_words)
    except Exception as error:  # the library raises bare Exception
        message = f"{file.path.name}: the tokenizer's merges don't fit its vocabulary: {error}"
        raise UnsupportedModel(message) from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(rule)
    tokenizer.decoder = decoders.ByteLevel()
    if rule.compose:
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _find_rule(file: GgufFile) -> _Rule:
    name = file.require("tokenizer.ggml.pre", str)
    if name not in RULES:
        message = (
            f"{file.path.name} cuts text into words by the rule {name!r}, which is unknown; "
            f"supported are {', '.join(RULES)}"
        )
        raise UnsupportedModel(message)
    return RULES[name]


def _pre_tokenizer(rule: _Rule) -> pre_tokenizers.PreTokenizer:
    steps: list[pre_tokenizers.PreTokenizer] = []
    if rule.single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if rule.words is not None:
        steps.append(pre_tokenizers.Split(Regex(rule.words), behavior="isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=rule.words is None))
    return pre_tokenizers.Sequence(steps)


def _added(tokens: list[str], kinds: list[int], kind: gguf.TokenType) -> list[AddedToken]:
    special = kind is gguf.TokenType.CONTROL
    found = (token for token, its_kind in zip(tokens, kinds, strict=True) if its_kind == kind)
    return [AddedToken(token, special=special, normalized=False) for token in found]
