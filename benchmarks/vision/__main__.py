"""A seeing model of full size: Diplex against plain transformers, and text beside pictures.

    python -m benchmarks.vision [--rounds N] [--tokens N] [--python PYTHON] [--speculation]
                                [--no-torch-worker] [--json FILE]

The weights are random and of SmolVLM-256M's shape (:mod:`benchmarks.vision.weights`). Each round asks every
engine about one new picture of 512 pixels, in turns, and then a second question about the same picture. Time
to the first token counts from the call, for transformers from the picture's bytes; decode speed is tokens
after the first over the time from the first to the last. Ratios are medians over the rounds.

Then text alone, eight streams, and the same eight beside eight clients that ask about one new picture after
another.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from benchmarks.lineup import threads
from benchmarks.stack import Stack
from benchmarks.vision import weights
from benchmarks.vision.company import Company, beside_pictures
from benchmarks.vision.engines import Answered, Engine, Served, Transformers
from diplex import Client
from workers.runtime.store import default_home

MODEL = "full-size-seeing"
QUESTIONS = ("What is in this image?", "Which colours does it have?")
SIDE = 512
_CATALOGUE = """
[[model]]
name = "{model}"
architecture = "idefics3"
licence = "Apache-2.0"
capabilities = ["text", "chat", "images"]
context_length = 8192

[model.onnx]
default_profile = "int8"

[model.onnx.artefact]
format = "safetensors"
sources = [{{ folder = "{folder}" }}]

[model.onnx.profiles.int8]

[model.onnx.profiles.fp32]

[model.torch]
default_profile = "int8"

[model.torch.artefact]
format = "safetensors"
sources = [{{ folder = "{folder}" }}]

[model.torch.profiles.int8]
"""
TORCH = Path(__file__).parents[2] / ".venv-torch" / "bin" / "python"
BASELINE = "transformers"


@dataclass(frozen=True, slots=True)
class Round:
    """One picture."""

    first: dict[str, Answered]
    """Engine -> the first question."""
    second: dict[str, Answered]
    """Engine -> another question about the same picture."""

    @classmethod
    def run(cls, engines: dict[str, Engine], number: int, tokens: int) -> Round:
        """Asks all engines."""
        image = picture(number)
        first, second = (
            {name: engine.answer(image, question, tokens) for name, engine in engines.items()}
            for question in QUESTIONS
        )
        return cls(first, second)


def picture(number: int) -> bytes:
    """A picture that no round before had, as PNG."""
    random = np.random.default_rng(number)
    coarse = Pillow.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def report(rounds: list[Round], baseline: str) -> str:
    """Medians, and ratios to the baseline."""
    lines = [f"{'':14}first token ms   of baseline   second question   decode tok/s   of baseline"]
    for name in rounds[0].first:
        first = statistics.median(each.first[name].first_seconds for each in rounds)
        decode = statistics.median(each.first[name].tokens_per_second for each in rounds)
        again = statistics.median(
            each.second[name].first_seconds / each.first[name].first_seconds for each in rounds
        )
        slower, faster = (
            statistics.median(of(each.first[name]) / of(each.first[baseline]) for each in rounds)
            for of in (lambda it: it.first_seconds, lambda it: it.tokens_per_second)
        )
        lines.append(
            f"{name:14}{1e3 * first:14.0f}   {slower:11.2f}   {again:15.2f}   {decode:12.1f}   {faster:11.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Runs everything and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument(
        "--python", type=Path, default=TORCH, help="with torch and transformers: .venv-torch has them"
    )
    parser.add_argument(
        "--speculation", action="store_true", help="let Diplex guess tokens, as it does by default"
    )
    parser.add_argument("--no-torch-worker", action="store_true", help="leave the torch worker out")
    parser.add_argument("--seconds", type=float, default=20.0, help="of text beside pictures")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    options = parser.parse_args()
    home = default_home(os.environ) / "benchmarks"
    folder = weights.write(home / MODEL)
    catalogue = home / "seeing.toml"
    catalogue.write_text(_CATALOGUE.format(model=MODEL, folder=folder))
    # What random weights say repeats itself, so guesses of the next tokens would be right too often.
    worker_options = ["--catalogue", str(catalogue), "--max-length", "2048"]
    worker_options += [] if options.speculation else ["--no-speculation"]
    with ExitStack() as running:
        onnx = running.enter_context(Stack(models=[MODEL], worker_options=worker_options))
        peer = running.enter_context(Transformers(options.python, folder, threads()))
        client = running.enter_context(Client(onnx.address))
        engines: dict[str, Engine] = {BASELINE: peer, "onnx int8": Served(client, MODEL)}
        with ExitStack() as beside:
            if not options.no_torch_worker:
                torch = beside.enter_context(
                    Stack(
                        models=[f"{MODEL}/int8"],
                        worker_options=worker_options,
                        worker="workers.torch_worker",
                        python=options.python,
                    )
                )
                engines["torch int8"] = Served(beside.enter_context(Client(torch.address)), MODEL)
            Round.run(engines, 0, 8)  # warms up
            rounds = []
            for number in range(1, options.rounds + 1):
                rounds.append(Round.run(engines, number, options.tokens))
                print(report(rounds[-1:], BASELINE), flush=True)
        print(f"\nmedians\n{report(rounds, BASELINE)}\n", flush=True)
        peer.stop()
        company = beside_pictures(onnx.address, MODEL, options.seconds, picture)
    print(company.report())
    if options.json:
        found: dict[str, list[Round] | Company] = {"rounds": rounds, "company": company}
        options.json.write_text(json.dumps(found, default=asdict, indent=1) + "\n")


if __name__ == "__main__":
    main()
