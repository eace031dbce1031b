"""Small tokenizers of the kinds that models come with."""

import functools

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from workers.runtime.text import tokenizer as diplex_tokenizer

SPECIAL = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEXT = [
    "hello world, the quick brown fox",
    "ünïcode 日本語 한국어",
    "👩‍👩‍👧 👍🏽 é",
    "def f(x):\n    return x",
]


@functools.cache
def byte_level() -> diplex_tokenizer.Tokenizer:
    """Byte-level BPE, as GPT-2's, with an added token that isn't special."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=list(SPECIAL))
    backend.train_from_iterator(TEXT * 3, trainer)
    backend.add_tokens([AddedToken("<tool call>"), AddedToken("né")])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return diplex_tokenizer.Tokenizer(backend)


@functools.cache
def byte_fallback() -> diplex_tokenizer.Tokenizer:
    """SentencePiece BPE with fallback to bytes and a leading space that is stripped, as Llama's."""
    pieces = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", *"abcdehlo<>|_é日�", "▁a", "▁b", "he", "ll", "hell", "hello", "▁hello"]
    merges = [("▁", "a"), ("▁", "b"), ("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("▁", "hello")]
    vocabulary = {piece: token_id for token_id, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, unk_token="<unk>"))  # noqa: S106  no password
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens(["<unk>", *SPECIAL])
    return diplex_tokenizer.Tokenizer(backend)


@functools.cache
def metaspace() -> diplex_tokenizer.Tokenizer:
    """Words with a marked space, decoded by Metaspace."""
    pieces = ["<unk>", *SPECIAL, "▁", "▁▁", "a", "b", "▁a", "▁b", "日", "▁日", "�"]
    backend = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>"))  # noqa: S106  no password
    backend.decoder = decoders.Metaspace()
    backend.add_special_tokens(["<unk>", *SPECIAL])
    return diplex_tokenizer.Tokenizer(backend)


@functools.cache
def word_pieces() -> diplex_tokenizer.Tokenizer:
    """WordPiece, whose spaces come from the decoder."""
    pieces = ["[UNK]", *SPECIAL, "a", "##b", "c", "##d", ".", "'"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))  # noqa: S106  no password
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[UNK]", *SPECIAL])
    return diplex_tokenizer.Tokenizer(backend)


@functools.cache
def without_decoder() -> diplex_tokenizer.Tokenizer:
    """No decoder at all: tokens are joined by spaces."""
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "<0x41>": 3}, unk_token="<unk>"))  # noqa: S106  no password
    backend.add_special_tokens(["<unk>"])
    return diplex_tokenizer.Tokenizer(backend)


ALL = (byte_level, byte_fallback, metaspace, word_pieces, without_decoder)
