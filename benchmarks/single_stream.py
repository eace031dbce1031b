"""What worker, gateway and gRPC cost one stream: a bare loop over the model against the whole path.

    python -m benchmarks.single_stream [--rounds N] [--tokens N] [--json FILE]

Both sides generate the same tokens, greedily, from the same prompt, in turns, on the same machine:

(a) *bare*: this process computes a step as an engine does (by ONNX Runtime with ``DIPLEX_COMPILED=off``),
    takes the argmax, and repeats;
(b) *served*: a client of the gateway reads the stream; gateway, worker and engine are processes of their
    own, and the client's own cost counts.

Decode speed is tokens after the first over the time from the first to the last, behind the short prompt. Time
to first token counts from the call, for a short and for a medium prompt. The figures are the medians over all
rounds of the ratio of each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.stack import Stack
from diplex import Client, TokenIds
from workers.onnx_worker.engine import load_backend
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.catalogue import Catalogue
from workers.runtime.engine.messages import EngineConfig
from workers.runtime.engine.plan import Chunk, Row, StepPlan
from workers.runtime.store import Store, default_home
from workers.runtime.text.tokenizer import Tokenizer

SENTENCE = "The history of the sea is a history of people who looked at it and wondered what lay behind. "
"""Repeated to a prompt's length; continued without an end for several hundred tokens, greedily."""
SHORT, MEDIUM = 38, 512
"""Tokens of the prompts."""
FIRST_ONLY = 4
"""Tokens generated where only the first is of interest."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One generation."""

    tokens: int
    first_token_ms: float
    decode_tokens_per_second: float


class BareLoop:
    """What an engine computes with, and nothing around it."""

    def __init__(self, folder: Path, max_length: int) -> None:
        config = EngineConfig(folder, slots=1, max_length=max_length)
        self._backend = load_backend(ModelDescription.load(folder), config)

    def generate(self, prompt: list[int], tokens: int) -> Measured:
        """Generates and measures."""
        began = time.perf_counter()
        token = self._token(StepPlan(chunks=(Chunk(0, 0, 0, tuple(prompt), last=True),)))
        first = time.perf_counter()
        for past in range(len(prompt), len(prompt) + tokens - 1):
            token = self._token(StepPlan(rows=(Row(0, past, token),)))
        return _measured(tokens, began, first, time.perf_counter())

    def _token(self, plan: StepPlan) -> int:
        return int(self._backend.forward(plan).logits[0].argmax())


def served(client: Client, prompt: list[int], tokens: int) -> Measured:
    """Generates through gateway and worker, and measures at the client."""
    began = time.perf_counter()
    first = last = 0.0
    with client.stream(TokenIds(prompt), temperature=0, max_tokens=tokens) as stream:
        for _ in stream:
            last = time.perf_counter()
            first = first or last
        generated = stream.receipt.usage.completion_tokens
    if generated != tokens:
        raise RuntimeError(f"the answer ended after {generated} of {tokens} tokens")
    return _measured(tokens, began, first, last)


def _measured(tokens: int, began: float, first: float, last: float) -> Measured:
    return Measured(tokens, 1e3 * (first - began), (tokens - 1) / (last - first))


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides once, at every task."""

    decode: tuple[Measured, Measured]
    """Bare and served, behind the short prompt."""
    short: tuple[Measured, Measured]
    """For the first token of the short prompt."""
    medium: tuple[Measured, Measured]
    """For the first token of the medium prompt."""

    @classmethod
    def run(cls, bare: BareLoop, client: Client, text: list[int], tokens: int) -> Round:
        """Measures in turns."""
        tasks = ((SHORT, tokens), (SHORT, FIRST_ONLY), (MEDIUM, FIRST_ONLY))
        return cls(*((bare.generate(text[:n], m), served(client, text[:n], m)) for n, m in tasks))

    def line(self) -> str:
        """The round for a person."""
        a, b = (side.decode_tokens_per_second for side in self.decode)
        firsts = "   ".join(
            f"first of {name} {pair[0].first_token_ms:5.1f} / {pair[1].first_token_ms:5.1f} ms"
            for name, pair in ((SHORT, self.short), (MEDIUM, self.medium))
        )
        return f"bare / served: decode {a:5.1f} / {b:5.1f} tok/s   {firsts}"


def _report(rounds: list[Round]) -> str:
    figures: dict[str, Callable[[Round], float]] = {
        "decode speed, served over bare (more is better)": lambda r: (
            r.decode[1].decode_tokens_per_second / r.decode[0].decode_tokens_per_second
        ),
        f"time to first of {SHORT}, bare over served (more is better)": lambda r: (
            r.short[0].first_token_ms / r.short[1].first_token_ms
        ),
        f"time to first of {MEDIUM}, bare over served (more is better)": lambda r: (
            r.medium[0].first_token_ms / r.medium[1].first_token_ms
        ),
    }
    return "\n".join(
        f"{name:56} {statistics.median(map(figure, rounds)):.3f}" for name, figure in figures.items()
    )


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    options = parser.parse_args()
    match = Catalogue.load().find(options.model)
    artefact = Store(default_home(os.environ)).ensure(match.entry, "onnx", match.profile, ToOnnx())
    tokenizer = Tokenizer.from_file(artefact.folder / TOKENIZER_FILE)
    text = tokenizer.encode(SENTENCE * (MEDIUM // 10))
    bare = BareLoop(artefact.folder, MEDIUM + options.tokens + 1)
    rounds = []
    plain = ("--no-speculation", "--prefix-cache-mib", "0")  # each token and each prompt is computed
    with Stack(models=[options.model], worker_options=plain) as stack, Client(stack.address) as client:
        Round.run(bare, client, text, options.tokens)  # warms up
        for _ in range(options.rounds):
            rounds.append(Round.run(bare, client, text, options.tokens))
            print(rounds[-1].line(), flush=True)
    print(f"\n{_report(rounds)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in rounds], indent=1) + "\n")


if __name__ == "__main__":
    main()
