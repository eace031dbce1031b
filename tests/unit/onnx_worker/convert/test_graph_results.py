"""What the graph computes, against the independent reference and against itself cut otherwise."""

import numpy as np
import pytest

from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.tiny_llama import HEAD_DIM, write_tiny_llama
from workers.onnx_worker.convert import convert_gguf
from workers.runtime.artefact import ModelDescription
from workers.runtime.fidelity.reference import Reference
from workers.runtime.progress import silent

TOLERANCE = 2e-4  # of logits up to 40, float32 summed in another order
TOKENS = np.random.default_rng(3).integers(0, 294, (3, 90)).tolist()


def largest_difference(first, second):
    return float(np.abs(np.asarray(first) - np.asarray(second)).max())


def converted(folder, **options):
    source = write_tiny_llama(folder / "tiny.gguf", **options)
    convert_gguf(source, folder, precision="fp32", report=silent)
    return source


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 1},
        {"tied": True},
        {"quantization": "F16"},
        {"quantization": "Q4_1"},
        {"quantization": "Q5_0"},
        {"settings": {"llama.rope.freq_base": 500.0, "llama.attention.layer_norm_rms_epsilon": 0.01}},
        {"settings": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}},
        {"tensors": {"rope_freqs.weight": np.linspace(1, 8, HEAD_DIM // 2, dtype=np.float32)}},
    ],
)
def test_fp32_agrees_with_the_reference(tmp_path, options):
    source = converted(tmp_path, **options)
    expected = np.concatenate(list(Reference(source).logits(TOKENS[0])))
    assert largest_difference(PreparedRows(tmp_path).prefill(TOKENS[0]), expected) < TOLERANCE


def test_a_head_may_be_wider_than_its_share(tmp_path):
    random = np.random.default_rng(0)
    tensors = {}
    for layer in range(3):
        for part, shape in (("q", (128, 64)), ("k", (64, 64)), ("v", (64, 64)), ("output", (64, 128))):
            tensors[f"blk.{layer}.attn_{part}.weight"] = random.standard_normal(shape).astype(np.float32) / 8
    widths = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    settings = {f"llama.{key}": 32 for key in widths}
    source = converted(tmp_path, tensors=tensors, settings=settings)
    expected = np.concatenate(list(Reference(source).logits(TOKENS[0])))
    assert largest_difference(PreparedRows(tmp_path).prefill(TOKENS[0]), expected) < TOLERANCE


def test_int8_is_near_the_reference(tmp_path, tiny_gguf):
    convert_gguf(tiny_gguf, tmp_path, precision="int8", report=silent)
    expected = np.concatenate(list(Reference(tiny_gguf).logits(TOKENS[0])))
    found = PreparedRows(tmp_path).prefill(TOKENS[0])
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()


def test_chunks_give_what_the_whole_gives(prepared_fp32):
    rows, tokens, found, start = PreparedRows(prepared_fp32), TOKENS[0], [], 0
    for size in (1, 7, 32, 1, 49):
        found.append(rows.run([tokens[start : start + size]], [start + size], range(size)))
        start += size
    whole = PreparedRows(prepared_fp32)
    assert largest_difference(np.concatenate(found), whole.prefill(tokens)) < TOLERANCE
    for half, cache in rows.caches.items():
        assert np.allclose(cache, whole.caches[half], atol=1e-4), half
        assert not cache[:, :, len(tokens) :].any(), half


def test_ragged_rows_decode_as_they_do_alone(prepared):
    """The rows of a batch have different lengths; each gives bit by bit what it gives by itself."""
    lengths, steps = [12, 80, 41], 6
    together = PreparedRows(prepared, rows=3)
    alone = [PreparedRows(prepared) for _ in lengths]
    for row, length in enumerate(lengths):
        together.prefill(TOKENS[row][:length], row=row)
        alone[row].prefill(TOKENS[row][:length])
    for step in range(steps):
        ids = [[TOKENS[row][length + step]] for row, length in enumerate(lengths)]
        found = together.run(ids, [length + step + 1 for length in lengths], [0, 1, 2])
        for row, length in enumerate(lengths):
            assert np.array_equal(found[row], alone[row].run([ids[row]], [length + step + 1], [0])[0])


def test_prefilling_one_row_leaves_the_others_alone(prepared):
    rows = PreparedRows(prepared, rows=3)
    for row in range(3):
        rows.prefill(TOKENS[row][:20], row=row)
    before = {half: cache[[0, 2]].copy() for half, cache in rows.caches.items()}
    again = rows.prefill(TOKENS[1][20:60], row=1)
    assert np.array_equal(
        again, PreparedRows(prepared).prefill(TOKENS[1][20:60])
    )  # what lay there before is gone
    assert all(np.array_equal(rows.caches[half][[0, 2]], cache) for half, cache in before.items())


def test_an_idle_row_changes_nothing(prepared):
    rows = PreparedRows(prepared, rows=2)
    rows.prefill(TOKENS[0][:20], row=0)
    alone = PreparedRows(prepared)
    alone.prefill(TOKENS[0][:20])
    found = rows.run([[TOKENS[0][20]], [0]], [21, 1], [0])
    assert np.array_equal(found, alone.run([[TOKENS[0][20]]], [21], [0]))


@pytest.mark.parametrize("wanted", [[], [89], [0], [5, 5, 2], list(range(90))])
def test_only_the_wanted_rows_get_logits(prepared, wanted):
    everything = PreparedRows(prepared).prefill(TOKENS[0])
    found = PreparedRows(prepared).run([TOKENS[0]], [90], wanted)
    assert found.shape == (len(wanted), 294)
    assert np.allclose(found, everything[wanted], atol=TOLERANCE)


def test_padded_prompts_run_as_one_batch(prepared_fp32):
    rows = PreparedRows(prepared_fp32, rows=2)
    ids = [TOKENS[0][:50], TOKENS[1][:20]]
    found = rows.run(ids, [50, 20], [49, 50 + 19])
    prompts = (TOKENS[0][:50], TOKENS[1][:20])
    expected = [PreparedRows(prepared_fp32).prefill(prompt)[-1] for prompt in prompts]
    assert largest_difference(found, expected) < TOLERANCE


def test_rows_take_in_what_they_have_behind_what_they_hold(prepared):
    """Some tokens for one row, one for another and none for a third: bit by bit what each gives alone."""
    held, taken = [70, 12, 33], [5, 1, 0]
    together, alone = PreparedRows(prepared, rows=3), [PreparedRows(prepared) for _ in held]
    for row, length in enumerate(held):
        together.prefill(TOKENS[row][:length], row=row)
        alone[row].prefill(TOKENS[row][:length])
    ids = [
        TOKENS[row][length : length + more]
        for row, (length, more) in enumerate(zip(held, taken, strict=True))
    ]
    places = [row * max(taken) + i for row, more in enumerate(taken) for i in range(more)]
    found = together.run(ids, [length + more for length, more in zip(held, taken, strict=True)], places)
    expected = [
        alone[row].run([ids[row]], [held[row] + taken[row]], range(taken[row]))
        for row in range(2)
        if taken[row]
    ]
    if ModelDescription.load(prepared).precision == "int8":
        np.testing.assert_array_equal(found, np.concatenate(expected))
    assert largest_difference(found, np.concatenate(expected)) < TOLERANCE
    behind = [[TOKENS[row][held[row] + taken[row]]] for row in range(3)]
    lengths = [length + more + 1 for length, more in zip(held, taken, strict=True)]
    one_by_one = [alone[row].run([behind[row]], [lengths[row]], [0]) for row in range(3)]
    assert largest_difference(together.run(behind, lengths, range(3)), np.concatenate(one_by_one)) < TOLERANCE
