"""How far a candidate's predictions are from a reference's, over one text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The comparison of two models over every position of one text."""

    kl: float
    """Mean over positions of KL(reference || candidate), in nats: 0 when both predict the same."""
    perplexity: float
    """The candidate's: exp of the mean negative log-likelihood, in nats, of the token that follows."""
    reference_perplexity: float
    """The reference's, over the same tokens."""
    top1_agreement: float
    """Share of positions where both rank the same token first, 0 to 1."""
    tokens: int
    """Positions compared; the last of them has no token after it and counts for no perplexity."""
    text_sha256: str
    """SHA-256 of the text's UTF-8 bytes, in hexadecimal; empty when the tokens came from no text."""


def compare(
    reference: Iterable[Floats],
    candidate: Iterable[Floats],
    token_ids: Sequence[int],
    *,
    text_sha256: str = "",
) -> Certificate:
    """Compare two streams of logits, of which no more than a chunk of each is kept.

    Args:
        reference: Float32 arrays ``[rows, vocabulary]`` that together have a row for every token of
            ``token_ids``: row i holds the logits after token i.
        candidate: The same of the other model; the chunks may be cut elsewhere.
        token_ids: The text, at least two tokens.
        text_sha256: Noted in the certificate.

    Raises:
        ValueError: The streams don't have one row a token, or fewer than two tokens were given.
    """
    if len(token_ids) <= 1:
        message = "a comparison needs at least two tokens"
        raise ValueError(message)
    ids = np.asarray(token_ids)
    done, divergence, agreed = 0, 0.0, 0
    likelihoods = np.zeros(2)  # sums of log-likelihoods: reference, candidate
    for ours, theirs in _aligned(reference, candidate):
        expected, found = _log_softmax(ours), _log_softmax(theirs)
        divergence += float((np.exp(expected) * (expected - found)).sum())
        agreed += int((ours.argmax(axis=1) == theirs.argmax(axis=1)).sum())
        following = ids[done + 1 : done + 1 + len(ours)]
        rows = np.arange(len(following))
        likelihoods += [float(scores[rows, following].sum()) for scores in (expected, found)]
        done += len(ours)
    if done != len(ids):
        message = f"there are logits for {done} tokens, and {len(ids)} tokens"
        raise ValueError(message)
    reference_perplexity, perplexity = np.exp(-likelihoods / (done - 1))
    return Certificate(
        kl=divergence / done,
        perplexity=float(perplexity),
        reference_perplexity=float(reference_perplexity),
        top1_agreement=agreed / done,
        tokens=done,
        text_sha256=text_sha256,
    )


def _log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Return the natural logarithm of every row's softmax, in float64 so that small differences survive."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _aligned(first: Iterable[Floats], second: Iterable[Floats]) -> Iterator[tuple[Floats, Floats]]:
    """Yield pieces of both streams that have equally many rows.

    Raises:
        ValueError: One stream ends before the other.
    """
    streams = (iter(first), iter(second))
    rests: list[Floats] = [np.empty((0, 0), np.float32)] * 2
    while True:
        for number, stream in enumerate(streams):
            while len(rests[number]) == 0:
                chunk = next(stream, None)
                if chunk is None:
                    break
                rests[number] = chunk
        size = min(len(rests[0]), len(rests[1]))
        if size == 0:
            break
        yield rests[0][:size], rests[1][:size]
        rests = [rest[size:] for rest in rests]
    if len(rests[0]) or len(rests[1]):
        message = "one model gave logits for fewer tokens than the other"
        raise ValueError(message)
