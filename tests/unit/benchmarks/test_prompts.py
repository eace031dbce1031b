"""Prompts have their exact length and nothing in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from benchmarks.suite.prompts import PromptBook


@pytest.fixture
def book(tmp_path: Path) -> PromptBook:
    """Writes with a tokenizer whose tokens are characters."""
    alphabet = {chr(code): code for code in range(128)}
    model = models.WordLevel(alphabet, "~")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return PromptBook(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("length", [24, 38, 5000])
def test_a_prompt_has_exactly_its_length(book, length):
    assert len(book.prompt(length, "cell", 1)) == length


def test_the_same_seed_gives_the_same_prompt(book):
    assert book.prompt(100, "cell", 1) == book.prompt(100, "cell", 1)


def test_other_seeds_give_other_prompts(book):
    prompts = {tuple(book.prompt(100, "cell", number)) for number in range(100)}
    assert len(prompts) == 100


def test_a_longer_prompt_begins_like_the_shorter_one(book):
    assert book.prompt(200, "cell")[:100] == book.prompt(100, "cell")


def test_every_turn_holds_the_turns_before(book):
    first, second, third = book.conversation(3, 50, 30, "chat", 1).prompts
    assert second[: len(first)] == first
    assert third[: len(second)] == second


def test_conversations_share_the_system_message_and_no_more(book):
    one, other = (book.conversation(1, 50, 30, "chat", number).prompts[0] for number in range(2))
    common = next(at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    assert 50 < common < len(one) - 20
