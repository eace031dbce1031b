"""What worker, gateway and gRPC cost one stream: a bare loop over the ONNX graph against the whole path.

    python -m benchmarks.single_stream [--rounds N] [--tokens N] [--json FILE]

Both sides generate the same tokens, greedily, from the same prompt, in turns, on the same machine:

(a) *bare*: this process runs the prepared graph with its buffers bound in place, takes the argmax, and
    repeats;
(b) *served*: a client of the gateway reads the stream; gateway, worker and engine are processes of their
    own, and the client's own cost counts.

Decode speed is tokens after the first over the time from the first to the last; time to first token counts
from the call. The figure is the ratio of each round, and their median.
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

import numpy as np

from benchmarks.stack import Stack
from diplex.v1 import generation_pb2 as pb
from workers.onnx_worker.kv_cache import KVCache
from workers.onnx_worker.prepare import GgufToOnnx
from workers.onnx_worker.session import BoundRun, open_session
from workers.runtime.artefact import MODEL_FILE, TOKENIZER_FILE, ModelDescription
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store, default_home
from workers.runtime.text.tokenizer import Tokenizer

PROMPT = "The history of the sea is a history of people who"
"""Continued without an end for several hundred tokens, greedily."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One generation."""

    tokens: int
    first_token_ms: float
    decode_tokens_per_second: float


class BareLoop:
    """The graph without anything around it."""

    def __init__(self, folder: Path, max_length: int) -> None:
        self._description = ModelDescription.load(folder)
        self._session = open_session(folder / MODEL_FILE, threads=0)
        self._cache = KVCache(self._description, slots=1, max_length=max_length).rows(0, 1)
        self._decode = self._bound(tokens=1)

    def _bound(self, tokens: int) -> BoundRun:
        logits = np.empty((1, self._description.vocab_size), np.float32)
        return BoundRun(self._session, self._cache, (1, tokens), logits)

    def generate(self, prompt: list[int], tokens: int) -> Measured:
        """Generates and measures."""
        began = time.perf_counter()
        prefill, decode, length = self._bound(len(prompt)), self._decode, len(prompt)
        prefill.input_ids[0] = prompt
        prefill.seqlens_k[0] = length - 1
        prefill.logit_rows[0] = length - 1
        token = int(prefill(total_length=length)[0].argmax())
        first = time.perf_counter()
        for past in range(length, length + tokens - 1):
            decode.input_ids[0, 0] = token
            decode.seqlens_k[0] = past
            token = int(decode(total_length=past + 1)[0].argmax())
        return _measured(tokens, began, first, time.perf_counter())


def served(stack: Stack, prompt: str, tokens: int) -> Measured:
    """Generates through gateway and worker, and measures at the client."""
    request = pb.GenerateRequest(prompt=prompt)
    request.sampling.temperature = 0
    request.stopping.max_tokens = tokens
    began = time.perf_counter()
    first = last = 0.0
    count = 0
    for event in stack.stub.GenerateStream(request):
        if event.HasField("delta"):
            last = time.perf_counter()
            first = first or last
        elif event.HasField("receipt"):
            count = event.receipt.usage.completion_tokens
    if count != tokens:
        raise RuntimeError(f"the answer ended after {count} of {tokens} tokens")
    return _measured(tokens, began, first, last)


def _measured(tokens: int, began: float, first: float, last: float) -> Measured:
    return Measured(tokens, 1e3 * (first - began), (tokens - 1) / (last - first))


def _ratio(pairs: list[tuple[Measured, Measured]], figure: Callable[[Measured], float]) -> float:
    return statistics.median(figure(b) / figure(a) for a, b in pairs)


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    options = parser.parse_args()
    match = Catalogue.load().find(options.model)
    artefact = Store(default_home(os.environ)).ensure(match.entry, "onnx", match.profile, GgufToOnnx())
    prompt_ids = Tokenizer.from_file(artefact.folder / TOKENIZER_FILE).encode(PROMPT)
    bare = BareLoop(artefact.folder, len(prompt_ids) + options.tokens + 1)
    pairs = []
    with Stack(models=[options.model]) as stack:
        for round_ in range(options.rounds + 1):
            pair = (bare.generate(prompt_ids, options.tokens), served(stack, PROMPT, options.tokens))
            if round_:  # the first warms up
                pairs.append(pair)
                print(_line(f"round {round_}", *pair))
    print()
    speed = _ratio(pairs, lambda m: m.decode_tokens_per_second)
    first = _ratio(pairs, lambda m: m.first_token_ms)
    print(f"decode, served over bare (more is better):              {speed:.3f}")
    print(f"time to first token, served over bare (less is better): {first:.3f}")
    if options.json:
        options.json.write_text(json.dumps([[asdict(a), asdict(b)] for a, b in pairs], indent=1) + "\n")


def _line(name: str, a: Measured, b: Measured) -> str:
    return (
        f"{name:10} bare {a.decode_tokens_per_second:7.1f} tok/s {a.first_token_ms:6.1f} ms"
        f"   served {b.decode_tokens_per_second:7.1f} tok/s {b.first_token_ms:6.1f} ms"
        f"   ratio {b.decode_tokens_per_second / a.decode_tokens_per_second:.3f}"
    )


if __name__ == "__main__":
    main()
