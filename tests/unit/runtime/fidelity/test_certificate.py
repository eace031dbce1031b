"""The figures of a certificate."""

import numpy as np
import pytest

from workers.runtime.fidelity.certificate import compare


def logits(rows=40, vocabulary=17, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, vocabulary)).astype(np.float32) * 3


IDS = np.random.default_rng(9).integers(0, 17, 40).tolist()


def test_identical_models_do_not_diverge():
    certificate = compare([logits()], [logits()], IDS, text_sha256="abc")
    assert certificate.kl == 0
    assert certificate.top1_agreement == 1
    assert certificate.perplexity == certificate.reference_perplexity
    assert (certificate.tokens, certificate.text_sha256) == (40, "abc")


def test_a_constant_added_to_all_logits_is_no_difference():
    certificate = compare([logits()], [logits() + np.float32(5)], IDS)
    assert certificate.kl == pytest.approx(0, abs=1e-6)


def test_kl_is_that_of_the_definition():
    reference, candidate = logits(seed=1).astype(np.float64), logits(seed=2).astype(np.float64)
    p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (reference, candidate))
    expected = (p * np.log(p / q)).sum(axis=1).mean()
    certificate = compare([reference.astype(np.float32)], [candidate.astype(np.float32)], IDS)
    assert certificate.kl == pytest.approx(expected)
    assert certificate.top1_agreement == (p.argmax(axis=1) == q.argmax(axis=1)).mean()


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large():
    certificate = compare([np.zeros((40, 17), np.float32)], [logits()], IDS)
    assert certificate.reference_perplexity == pytest.approx(17)


def test_perplexity_is_about_the_following_token():
    sure = np.full((40, 17), -50, np.float32)
    sure[np.arange(39), IDS[1:]] = 50
    assert compare([sure], [sure], IDS).perplexity == pytest.approx(1)


@pytest.mark.parametrize(
    ("first", "second"), [([40], [7, 33]), ([10, 30], [13, 13, 14]), ([1] * 40, [39, 1])]
)
def test_chunks_may_be_cut_anywhere(first, second):
    whole = compare([logits(seed=1)], [logits(seed=2)], IDS)
    cut = compare(
        np.split(logits(seed=1), np.cumsum(first)[:-1]), np.split(logits(seed=2), np.cumsum(second)[:-1]), IDS
    )
    assert cut.kl == pytest.approx(whole.kl)
    assert cut.perplexity == pytest.approx(whole.perplexity)
    assert cut.top1_agreement == whole.top1_agreement


@pytest.mark.parametrize(
    ("first", "second", "tokens"), [(40, 39, 40), (39, 40, 40), (39, 39, 40), (40, 40, 39)]
)
def test_streams_of_another_length_are_refused(first, second, tokens):
    with pytest.raises(ValueError, match="tokens"):
        compare([logits(first)], [logits(second)], IDS[:tokens])


def test_one_token_is_no_text():
    with pytest.raises(ValueError, match="two tokens"):
        compare([logits(1)], [logits(1)], IDS[:1])
