"""The precision profiles of one model against each other: speed of one stream, of prompts, and bytes.

    python -m benchmarks.profiles [--model NAME] [--profiles NAME …] [--rounds N] [--tokens N]

Each profile's graph is run by the bare loop of :mod:`benchmarks.single_stream`, in this process, in turns:
greedy decoding behind a short prompt, and the time to the first token of a medium one. Figures are medians
over the rounds, and ratios to the first profile of the same round, since the machine's pace varies.
"""

from __future__ import annotations

import argparse
import os
import statistics

from benchmarks.single_stream import FIRST_ONLY, MEDIUM, SENTENCE, SHORT, BareLoop, Measured
from workers.onnx_worker.formats import OnnxFormats
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import TOKENIZER_FILE, WEIGHTS_FILE
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store, default_home
from workers.runtime.text.tokenizer import Tokenizer

_Round = dict[str, tuple[Measured, Measured]]
"""Profile -> decoding, and a medium prompt."""

_PROFILES = ("int8", "q4", "q4_mixed", "fp32", "fp16")


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="SmolLM2-135M-Instruct")
    parser.add_argument("--profiles", nargs="+", default=_PROFILES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    entry, store = Catalogue.load().find(options.model).entry, Store(default_home(os.environ))
    folders = {
        name: store.ensure(entry, OnnxFormats.backend, name, ToOnnx()).folder for name in options.profiles
    }
    text = Tokenizer.from_file(next(iter(folders.values())) / TOKENIZER_FILE).encode(
        SENTENCE * (MEDIUM // 10)
    )
    loops = {name: BareLoop(folder, MEDIUM + options.tokens + 1) for name, folder in folders.items()}
    rounds: list[_Round] = []
    for number in range(options.rounds + 1):
        each = {name: _measured(loop, text, options.tokens) for name, loop in loops.items()}
        if number:  # the first warms up
            rounds.append(each)
    first = options.profiles[0]
    print(f"{'profile':10} {'weights MB':>10} {'decode tok/s':>13} {'ratio':>6} {'first ms':>9} {'ratio':>6}")
    for name, folder in folders.items():
        decode, base = (_rates(rounds, profile) for profile in (name, first))
        prompt, waited = (_waits(rounds, profile) for profile in (name, first))
        faster = [mine / other for mine, other in zip(decode, base, strict=True)]
        sooner = [other / mine for mine, other in zip(prompt, waited, strict=True)]
        size = (folder / WEIGHTS_FILE).stat().st_size / 1e6
        medians = [statistics.median(values) for values in (decode, faster, prompt, sooner)]
        print(f"{name:10} {size:10.1f} " + "{:13.1f} {:6.2f} {:9.1f} {:6.2f}".format(*medians))


def _rates(rounds: list[_Round], name: str) -> list[float]:
    return [each[name][0].decode_tokens_per_second for each in rounds]


def _waits(rounds: list[_Round], name: str) -> list[float]:
    return [each[name][1].first_token_ms for each in rounds]


def _measured(loop: BareLoop, text: list[int], tokens: int) -> tuple[Measured, Measured]:
    """Of decoding, and of a medium prompt."""
    return loop.generate(text[:SHORT], tokens), loop.generate(text[:MEDIUM], FIRST_ONLY)


if __name__ == "__main__":
    main()
