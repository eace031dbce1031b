"""What the tiny model promises to the tests that use it."""

import hashlib

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.fixtures.prepared_rows import PreparedRows
from tests.fixtures.tiny_llama import write_tiny_llama

PROMPTS = [
    "Hello",
    "The quick brown fox",
    "<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n",
    "12345",
    "def f(x):\n    return x",
]


@pytest.fixture(scope="module")
def answers(prepared_fp32):
    """Greedy tokens and the margins by which they won: both ``[prompts, 120]``."""
    tokenizer = Tokenizer.from_file(str(prepared_fp32 / "tokenizer.json"))
    prompts = (tokenizer.encode(prompt).ids for prompt in PROMPTS)
    return [greedy(PreparedRows(prepared_fp32, max_length=256), prompt) for prompt in prompts]


def greedy(rows, prompt, steps=120):
    logits, tokens, margins = rows.prefill(prompt)[-1], [], []
    for step in range(steps):
        second, first = np.sort(logits)[-2:]
        margins.append(first - second)
        tokens.append(int(logits.argmax()))
        logits = rows.run([[tokens[-1]]], [len(prompt) + step + 1], [0])[0]
    return tokens, margins


def test_greedy_choices_are_clear(answers):
    margins = np.concatenate([margins for _, margins in answers])
    assert margins.min() > 1e-3  # float32 moves a logit by about 1e-5
    assert np.median(margins) > 1


def test_answers_vary_and_do_not_end(answers):
    assert len({tuple(tokens) for tokens, _ in answers}) == len(PROMPTS)
    for tokens, _ in answers:
        assert len(set(tokens)) > 30
        assert min(tokens) > 2  # no special token


@pytest.mark.parametrize("quantization", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_the_same_arguments_give_the_same_bytes(tmp_path, quantization):
    digests = {
        hashlib.sha256(write_tiny_llama(tmp_path / name, quantization=quantization).read_bytes()).digest()
        for name in ("one.gguf", "two.gguf")
    }
    assert len(digests) == 1
