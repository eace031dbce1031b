import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diplex.errors import InternalError, InvalidRequest
from workers.runtime.sampling import (
    Banned,
    LogitBias,
    Sampler,
    SamplingParams,
    SamplingRow,
    TokenCounts,
    distributions,
    fresh_seed,
    uniforms,
)
from workers.runtime.sampling.candidates import largest, nucleus
from workers.runtime.sampling.randomness import further
from workers.runtime.sampling.weights import Weights


def normal_logits(*shape, seed=0, scale=3.0):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def reference(logits, params):
    """Exact probabilities by sorting everything, and how near a cut was to moving."""
    logits = logits.astype(np.float64)
    order = np.argsort(-logits, kind="stable")
    probabilities = np.exp((logits - logits.max()) / params.temperature)[order]
    if params.top_k:
        probabilities[params.top_k :] = 0
    before = np.concatenate([[0], np.cumsum(probabilities)[:-1]]) / probabilities.sum()
    nearness = np.inf
    if params.top_p < 1:
        probabilities[before >= params.top_p] = 0
        nearness = np.abs(before - params.top_p).min()
    if params.min_p > 0:
        nearness = min(nearness, np.abs(probabilities - params.min_p).min())
        probabilities[probabilities < params.min_p] = 0
    result = np.zeros(len(logits))
    result[order] = probabilities / probabilities.sum()
    return result, nearness


def draws(logits, params, count):
    """The tokens of ``count`` positions of one sequence."""
    sampler = Sampler()
    tokens = [
        sampler.sample(
            np.repeat(logits[None], 64, axis=0), [SamplingRow(params, start + i) for i in range(64)]
        )
        for start in range(0, count, 64)
    ]
    return np.concatenate(tokens)[:count]


CASES = {
    "temperature": SamplingParams(temperature=0.7, seed=1),
    "hot": SamplingParams(temperature=5, seed=2),
    "top_k": SamplingParams(top_k=5, seed=3),
    "top_k of many": SamplingParams(temperature=3, top_k=150, seed=4),
    "top_p": SamplingParams(top_p=0.8, seed=5),
    "top_p, flat": SamplingParams(temperature=10, top_p=0.9, seed=6),
    "min_p": SamplingParams(min_p=0.05, seed=7),
    "top_k, top_p": SamplingParams(temperature=2, top_k=20, top_p=0.7, seed=8),
    "all": SamplingParams(temperature=1.5, top_k=40, top_p=0.95, min_p=0.1, seed=9),
}


@pytest.mark.parametrize("vocab", [7, 200, 777])
@pytest.mark.parametrize("params", CASES.values(), ids=CASES.keys())
def test_draws_follow_the_exact_distribution(vocab, params):
    logits = normal_logits(vocab, seed=vocab)
    expected, _ = reference(logits, params)
    count = 12_800
    observed = np.bincount(draws(logits, params, count), minlength=vocab)
    assert not observed[expected == 0].any()
    common = expected * count >= 5
    chi_square = ((observed - expected * count) ** 2)[common] / (expected * count)[common]
    rare = observed[~common].sum() - (expected * count)[~common].sum()
    freedom = common.sum()
    assert chi_square.sum() < freedom + 5 * math.sqrt(2 * freedom)
    assert abs(rare) <= 5 * math.sqrt((expected * count)[~common].sum() + 1)


@pytest.mark.parametrize(
    ("scale", "temperature", "top_p"),
    [
        (3.0, 1.0, 1.0),
        (3.0, 1.0, 0.9),
        (0.3, 1.0, 0.5),
        (3.0, 0.05, 0.99),
        (40.0, 2.0, 0.95),
        (8.0, 3.0, 0.05),
    ],
)
@pytest.mark.parametrize("forbidden", [False, True])
def test_draws_from_a_whole_vocabulary_follow_the_exact_distribution(scale, temperature, top_p, forbidden):
    # Twenty groups of tokens, by probability, of about the same mass.
    params = SamplingParams(temperature=temperature, top_p=top_p, seed=11)
    logits = normal_logits(5003, seed=5, scale=scale)
    if forbidden:
        logits[::3] = -np.inf
    expected, _ = reference(logits, params)
    order = np.argsort(-expected, kind="stable")
    group = np.empty(len(logits), int)
    group[order] = np.minimum(np.cumsum(expected[order]) * 20, 19).astype(int)
    count = 6400
    drawn = draws(logits, params, count)
    assert expected[drawn].min() > 0
    masses = np.bincount(group, weights=expected, minlength=20) * count
    observed = np.bincount(group[drawn], minlength=20)
    common = masses > 5
    chi_square = ((observed - masses)[common] ** 2 / masses[common]).sum()
    assert chi_square < common.sum() + 5 * math.sqrt(2 * common.sum())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
    offset=st.sampled_from([-500.0, 0.0, 60.0, 1000.0]),
    temperature=st.sampled_from([0.01, 0.3, 1.0, 100.0]),
    part=st.sampled_from([0.01, 0.5, 0.99]),
)
def test_weights_against_a_softmax(seed, scale, offset, temperature, part):
    logits = normal_logits(3000, seed=seed, scale=scale) + np.float32(offset)
    weights = Weights(3000)
    weights.fill(logits, temperature)
    scaled = logits.astype(np.float64) / temperature
    relative = np.exp(scaled - scaled.max())
    np.testing.assert_allclose(weights.values / weights.peak, relative, rtol=1e-4, atol=1e-30)
    assert weights.total / weights.peak == pytest.approx(relative.sum(), rel=1e-5)
    assert weights.log_total == pytest.approx(scaled.max() + np.log(relative.sum()), rel=1e-6)
    kept = set(weights.likeliest(part).tolist())
    order = np.argsort(-weights.values, kind="stable")
    ahead = np.concatenate([[0], np.cumsum(weights.values[order], dtype=np.float64)])[:-1] / weights.total
    for token, mass in zip(order[:500].tolist(), ahead[:500].tolist(), strict=True):
        if abs(mass - part) > 1e-5:
            assert weights.among_likeliest(token, part) == (token in kept) == (mass < part)


def test_further_numbers_are_uniform_and_unrelated():
    count = 20_000
    first = uniforms([7] * count, [0] * count, range(count))
    second = np.array([further(number) for number in first.tolist()])
    third = np.array([further(number) for number in second.tolist()])
    for numbers in (second, third):
        assert 0 <= numbers.min() < numbers.max() < 1
        histogram = np.bincount((numbers * 100).astype(int), minlength=100)
        assert ((histogram - count / 100) ** 2 / (count / 100)).sum() < 99 + 5 * math.sqrt(2 * 99)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert abs(np.corrcoef(second, third)[0, 1]) < 0.03
    assert abs(np.corrcoef(first, third)[0, 1]) < 0.03


@settings(max_examples=300, deadline=None)
@given(
    vocab=st.sampled_from([1, 2, 63, 64, 65, 200, 5000, 20_000]),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([0.0, 0.1, 1.0, 4.0, 30.0]),
    temperature=st.sampled_from([0.01, 0.5, 1.0, 3.0, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 50, 300, 10_000, 10**6]),
    top_p=st.sampled_from([1e-6, 0.1, 0.5, 0.9, 0.99, 1.0]),
    min_p=st.sampled_from([0.0, 1e-3, 0.05, 0.5, 1.0]),
)
def test_a_draw_lies_where_the_reference_puts_it(*, vocab, seed, scale, temperature, top_k, top_p, min_p):
    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, seed=seed)
    logits = normal_logits(vocab, seed=seed, scale=scale)
    expected, nearness = reference(logits, params)
    if nearness < 1e-5:
        return  # Rounding may move the cut by one token.
    assert expected[draws(logits, params, 64)].min() > 0


@settings(deadline=None)  # the machine may be busy
@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=400),
    repeats=st.sampled_from([1, 17]),
    k=st.integers(1, 500),
)
def test_largest_is_the_beginning_of_a_stable_sort(values, repeats, k):
    logits = np.array(values * repeats, dtype=np.float32)
    assert largest(logits, k).tolist() == sorted(np.argsort(-logits, kind="stable")[:k])


@settings(deadline=None)  # the machine may be busy
@given(
    values=st.lists(st.integers(0, 50), min_size=1, max_size=300),
    repeats=st.sampled_from([1, 9]),
    part=st.floats(0.001, 1.1),
)
def test_nucleus_is_the_shortest_beginning_that_reaches_the_mass(values, repeats, part):
    weights = np.array(values * repeats, dtype=np.float64)
    mass = max(part * weights.sum(), 0.5)
    order = np.argsort(-weights, kind="stable")
    reached = np.flatnonzero(np.cumsum(weights[order]) >= mass)
    count = reached[0] + 1 if len(reached) else len(weights)
    assert nucleus(weights, mass).tolist() == sorted(order[:count])


def test_equal_logits_are_kept_from_the_lowest_id():
    logits = np.zeros(1000, dtype=np.float32)
    assert set(draws(logits, SamplingParams(top_k=3), 256)) == {0, 1, 2}
    assert set(draws(logits, SamplingParams(top_p=0.0035), 256)) == {0, 1, 2, 3}


def test_tokens_of_probability_zero_are_never_drawn():
    logits = np.full(300, -np.inf, dtype=np.float32)
    logits[[5, 299]] = 1
    for params in (
        SamplingParams(),
        SamplingParams(top_k=10),
        SamplingParams(top_p=0.99),
        SamplingParams(min_p=0.1),
    ):
        assert set(draws(logits, params, 256)) == {5, 299}


def test_greedy_takes_the_first_of_the_largest():
    logits = np.array([[0, 2, 2, 1], [5, 4, 3, 2]], dtype=np.float32)
    rows = [SamplingRow(SamplingParams(temperature=0, top_k=2, seed=i), position=i) for i in range(2)]
    tokens = Sampler().sample(logits, rows)
    assert tokens.tolist() == [1, 0]
    assert tokens.dtype == np.int64


def test_a_row_depends_on_itself_alone():
    params = [*CASES.values(), SamplingParams(temperature=0), SamplingParams(frequency_penalty=1, seed=3)]
    logits = normal_logits(len(params), 3000)
    counts = TokenCounts([1, 2, 3], 3000)
    rows = [SamplingRow(one, position=i, choice=i % 3, tokens=counts) for i, one in enumerate(params)]
    together = Sampler().sample(logits.copy(), rows)
    sampler = Sampler()
    for index in reversed(range(len(rows))):
        assert sampler.sample(logits[index : index + 1].copy(), [rows[index]]) == together[index]
    backwards = sampler.sample(logits[::-1].copy(), rows[::-1])
    assert backwards[::-1].tolist() == together.tolist()


@pytest.mark.parametrize("params", CASES.values(), ids=CASES.keys())
def test_rounding_of_the_logits_seldom_changes_a_draw(params):
    logits = normal_logits(777)
    noisy = logits + normal_logits(777, seed=1, scale=1e-6)
    assert (draws(logits, params, 6400) != draws(noisy, params, 6400)).mean() < 1e-3


def test_uniforms_are_fixed_for_good():
    # A change of these numbers changes what a seed gives.
    numbers = uniforms([0, 1, 2**64 - 1, -1], [0, 0, 1, 1], [0, 5, 2**40, 2**40])
    assert numbers.tolist() == [
        0.13870941014555427,
        0.8453660391206353,
        0.16855409232725105,
        0.16855409232725105,
    ]
    assert numbers[2] == numbers[3]


def test_uniforms_are_uniform_and_unrelated():
    count = 20_000
    by_position = uniforms([7] * count, [0] * count, range(count))
    by_seed = uniforms(range(count), [0] * count, [0] * count)
    by_choice = uniforms([7] * count, range(count), [0] * count)
    for numbers in (by_position, by_seed, by_choice):
        assert 0 <= numbers.min() < numbers.max() < 1
        histogram = np.bincount((numbers * 100).astype(int), minlength=100)
        assert ((histogram - count / 100) ** 2 / (count / 100)).sum() < 99 + 5 * math.sqrt(2 * 99)
        assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(by_position, by_seed)[0, 1]) < 0.03
    assert abs(np.corrcoef(by_position, by_choice)[0, 1]) < 0.03


@settings(deadline=None)  # the machine may be busy
@given(
    prompt=st.lists(st.integers(0, 30), max_size=20),
    output=st.lists(st.integers(0, 30), max_size=200),
    repetition=st.sampled_from([0.5, 1.0, 1.3]),
    presence=st.sampled_from([-1.0, 0.0, 0.5]),
    frequency=st.sampled_from([-1.0, 0.0, 0.25]),
)
def test_penalties_against_one_token_at_a_time(prompt, output, repetition, presence, frequency):
    params = SamplingParams(
        temperature=0, repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency
    )
    logits = normal_logits(31)
    expected = logits.astype(np.float64)
    for token in range(31):
        if token in prompt or token in output:
            expected[token] = (
                expected[token] / repetition if expected[token] > 0 else expected[token] * repetition
            )
        count = output.count(token)
        expected[token] -= count * frequency + (count > 0) * presence
    counts = TokenCounts(prompt, 31)
    for token in output:
        counts.add(token)
    batch = logits[None].copy()
    [token] = Sampler().sample(batch, [SamplingRow(params, position=0, tokens=counts)])
    np.testing.assert_allclose(batch[0], expected, rtol=1e-5, atol=1e-5)
    assert token == batch[0].argmax()


def test_counts_grow_and_leave_out_what_has_no_logit():
    counts = TokenCounts([3, 3, 99, -1, 500], 100)
    assert counts.ids.tolist() == [3, 99]
    for token in [3, *range(100), 3]:
        counts.add(token)
    assert sorted(counts.ids.tolist()) == list(range(100))
    assert dict(zip(counts.ids.tolist(), counts.counts.tolist(), strict=True)) == dict.fromkeys(
        range(100), 1
    ) | {3: 3}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_distribution_are_named_and_left_alone(bad, temperature):
    logits = normal_logits(4, 100)
    logits[1] = bad
    logits[3, 7:] = bad
    logits[3, :7] = -np.inf
    before = logits.copy()
    params = SamplingParams(temperature=temperature, repetition_penalty=2)
    row = SamplingRow(params, position=0, tokens=TokenCounts(range(100), 100))
    with pytest.raises(InternalError) as caught:
        Sampler().sample(logits, [row] * 4)
    assert caught.value.metadata == {"rows": "1,3"}
    np.testing.assert_array_equal(logits, before)


def test_a_row_with_penalties_needs_its_counts():
    row = SamplingRow(SamplingParams(presence_penalty=1), position=0)
    with pytest.raises(ValueError, match="counts"):
        Sampler().sample(normal_logits(1, 10), [row])


def test_rows_and_logits_must_agree():
    with pytest.raises(ValueError, match="rows"):
        Sampler().sample(normal_logits(2, 10), [SamplingRow(SamplingParams(), position=0)])


def test_params_out_of_range_are_all_named():
    with pytest.raises(InvalidRequest) as caught:
        SamplingParams(
            temperature=-1, top_k=-1, top_p=0, min_p=2, repetition_penalty=0, presence_penalty=math.nan
        )
    fields = {violation.field for violation in caught.value.violations}
    names = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty"}
    assert fields == {f"sampling.{name}" for name in names}


def test_fresh_seeds_differ_and_fit_a_double():
    seeds = {fresh_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**53 for seed in seeds)


def test_bias_comes_before_penalties_and_bans_behind_them():
    logits = normal_logits(1, 50)
    counts = TokenCounts([], 50)
    counts.add(7)
    params = SamplingParams(temperature=0, presence_penalty=2.0, logit_bias=((7, 51.0), (9, 50.0)))
    row = SamplingRow(params, 0, tokens=counts, bias=LogitBias(dict(params.logit_bias)))
    [first] = Sampler().sample(logits.copy(), [row])
    expected = 7 if logits[0, 7] + 49 > logits[0, 9] + 50 else 9
    assert first == expected
    banned = SamplingRow(params, 0, tokens=counts, bias=row.bias, banned=Banned([7, 9]))
    [second] = Sampler().sample(logits.copy(), [banned])
    assert second not in (7, 9)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_what_is_banned_is_never_drawn(temperature):
    logits = np.zeros((40, 8), np.float32)
    params = SamplingParams(temperature=temperature, seed=1, top_p=0.9)
    rows = [SamplingRow(params, i, banned=Banned(range(6))) for i in range(40)]
    assert set(Sampler().sample(logits, rows).tolist()) <= {6, 7}


def test_biases_out_of_range_are_refused():
    with pytest.raises(InvalidRequest) as raised:
        SamplingParams(logit_bias=((3, 100.5), (4, math.nan), (5, -100)))
    fields = [violation.field for violation in raised.value.violations]
    assert fields == ["sampling.logit_bias[3]", "sampling.logit_bias[4]"]


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 20), st.floats(0.1, 30))
def test_log_probabilities_against_a_softmax(seed, most, scale):
    logits = normal_logits(3, 700, seed=seed, scale=scale)
    found = distributions(logits, {0: most, 2: 0}, {2})
    kept = logits.copy()
    logits[2] = 0
    for row, count in ((0, most), (2, 0)):
        exact = kept[row].astype(np.float64)
        exact = exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())
        told = found[row].of(5)
        assert told.logprob == pytest.approx(exact[5], rel=1e-5, abs=1e-4)
        order = np.lexsort((np.arange(700), -kept[row]))[:count]
        assert [token_id for token_id, _ in told.top] == order.tolist()
        np.testing.assert_allclose([value for _, value in told.top], exact[order], rtol=1e-5, atol=1e-4)
