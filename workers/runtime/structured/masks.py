"""A batch's logits held to what grammars allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from workers.runtime.structured.matcher import Matcher

_FEW: Final = 256
"""Up to so many allowed tokens, their logits are carried over one by one."""


def mask_words(vocab_size: int) -> int:
    """Words of a mask over a vocabulary."""
    return -(-vocab_size // 32)


def apply_masks(logits: NDArray[np.float32], rows: Iterable[tuple[int, Matcher]]) -> None:
    """Set the logits of tokens that may not come to ``-inf``, in place.

    Args:
        logits: float32 ``[rows, vocab]``.
        rows: Index of a row, and the matcher of its sequence.

    Raises:
        InvalidRequest: A sequence can't go on; see :meth:`Matcher.fill`. Rows before it are done.
    """
    mask = np.empty(mask_words(logits.shape[1]), np.int32)
    for row, matcher in rows:
        matcher.fill(mask)
        apply_mask(logits[row], mask)


def apply_mask(logits: NDArray[np.float32], mask: NDArray[np.int32]) -> None:
    """Set the logits of tokens that a mask doesn't name to ``-inf``, in place.

    Args:
        logits: float32 ``[vocab]``.
        mask: int32 ``[ceil(vocab / 32)]``, as :meth:`Matcher.fill` writes it.
    """
    if np.bitwise_count(mask.view(np.uint32)).sum() <= _FEW:
        words = np.flatnonzero(mask)
        bits = np.unpackbits(mask[words].view(np.uint8).reshape(len(words), 4), axis=1, bitorder="little")
        of_word, bit = np.nonzero(bits)
        tokens = words[of_word] * 32 + bit
        kept = logits[tokens]
        logits.fill(-np.inf)
        logits[tokens] = kept
    else:
        forbidden = np.unpackbits(~mask.view(np.uint8), count=len(logits), bitorder="little").view(np.bool_)
        np.putmask(logits, forbidden, -np.inf)
