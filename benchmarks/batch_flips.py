"""How often a greedy text changes when it is generated in a batch, and what eight clients get in total.

    python -m benchmarks.batch_flips [--prompts N] [--clients N] [--tokens N] [--model NAME] [--json FILE]

Kernels may round differently with the number of rows they work on, so two tokens that are nearly equally
probable may change places, and from there on the text is another. Every prompt is answered alone, and then
all of them with so many clients at a time, always greedily. The report says how many texts differ and after
how many tokens; beside it stands the rate of one client and of all, prefill included, from the same passes.

On a full-precision profile (``--model SmolLM2-135M-Instruct/fp32``) no text should differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path

from benchmarks.stack import Stack
from diplex.v1 import generation_pb2 as pb
from workers.runtime.fidelity.text import fixed_text

_TASKS = (
    "Explain in a few sentences what {} is.",
    "Write a short story about {}.",
    "List five facts about {}.",
    "What would a child ask about {}? Answer it.",
    "Compare {} with something that everybody knows.",
    "Describe the history of {}, from its beginnings to today, and name the people who shaped it.",
    "Give advice to somebody who meets {} for the first time.",
    "Translate into plain words: the properties of {} follow from its structure.",
)
_SUBJECTS = (
    "photosynthesis",
    "a lighthouse",
    "the number zero",
    "bread",
    "an earthquake",
    "the violin",
    "a compiler",
    "the tide",
    "glass",
    "chess",
    "a glacier",
    "the alphabet",
    "honey bees",
    "steam engines",
    "the moon",
    "a market",
)

_PASSAGE_STEP = 150
"""Characters by which passages before prompts grow; the longest has 15 times as many."""


@dataclass(frozen=True, slots=True)
class Flip:
    """A text that came out differently in a batch."""

    prompt: str
    after_tokens: int
    """Tokens that both texts have in common at their beginning."""


@dataclass(frozen=True, slots=True)
class Pass:
    """All prompts once."""

    token_ids: list[list[int]]
    tokens_per_second: float


def prompts(count: int) -> list[str]:
    """So many different prompts: every other one short, the rest behind passages of growing length.

    A passage makes a prompt long enough to be prefilled in chunks, whose size depends on who else is there.

    Raises:
        ValueError: There aren't so many.
    """
    most = len(_TASKS) * len(_SUBJECTS)
    if count > most:
        raise ValueError(f"there are {most} prompts, not {count}")
    pairs = islice(product(range(len(_SUBJECTS)), range(len(_TASKS))), count)
    questions = [_TASKS[(subject + task) % len(_TASKS)].format(_SUBJECTS[subject]) for subject, task in pairs]
    passages = fixed_text().content
    return [
        f"{passages[: _PASSAGE_STEP * (at % 16)]}\n\n{question}" if at % 2 else question
        for at, question in enumerate(questions)
    ]


def answered(stack: Stack, texts: list[str], clients: int, tokens: int) -> Pass:
    """Answers all prompts, so many at a time."""

    def ask(text: str) -> list[int]:
        request = pb.GenerateRequest()
        request.chat.messages.add(role=pb.ROLE_USER).parts.add(text=text)
        request.sampling.temperature = 0
        request.stopping.max_tokens = tokens
        request.output.token_ids = True
        deltas = (event.delta for event in stack.stub.GenerateStream(request) if event.HasField("delta"))
        return [token for delta in deltas for token in delta.token_ids]

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        token_ids = list(pool.map(ask, texts))
    return Pass(token_ids, sum(map(len, token_ids)) / (time.perf_counter() - began))


def flips(texts: list[str], alone: Pass, together: Pass) -> list[Flip]:
    """The prompts whose two answers differ."""
    answers = zip(texts, alone.token_ids, together.token_ids, strict=True)
    return [Flip(text, _common(one, other)) for text, one, other in answers if one != other]


def _common(one: list[int], other: list[int]) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def report(alone: Pass, together: Pass, found: list[Flip], clients: int, say: Callable[[str], None]) -> None:
    """Says what was found, for a person."""
    count, tokens = len(alone.token_ids), sum(map(len, alone.token_ids))
    say(f"{len(found)} of {count} texts differ ({len(found) / count:.0%}), of {tokens} tokens in all")
    if found:
        after = sorted(flip.after_tokens for flip in found)
        listed = ", ".join(map(str, after))
        say(f"after {statistics.median(after):.0f} tokens in the median: {listed}")
    say(f"one client   {alone.tokens_per_second:7.1f} tok/s")
    say(
        f"{clients} clients    {together.tokens_per_second:7.1f} tok/s in total, "
        f"{together.tokens_per_second / alone.tokens_per_second:.2f} times as much"
    )


def main() -> None:
    """Runs the benchmark and prints its report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--json", type=Path, help="write all answers' tokens and the flips to this file")
    options = parser.parse_args()
    texts = prompts(options.prompts)
    with Stack(models=[options.model]) as stack:
        answered(stack, texts[:1], 1, options.tokens)  # warms up
        alone = answered(stack, texts, 1, options.tokens)
        together = answered(stack, texts, options.clients, options.tokens)
    found = flips(texts, alone, together)
    report(alone, together, found, options.clients, print)
    if options.json:
        document = {"alone": asdict(alone), "together": asdict(together), "flips": [*map(asdict, found)]}
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
