"""`make pizza`: 20 drawings of pizzas and 60 of other things, none trained on, shown to every backend.

A gateway and its workers are started as `diplex up` starts them, unless --address names one that runs. Ends
with 1 if a backend misses the bar: 10 of 10 on at least 19 pizzas, and on at most 1 of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from diplex import AsyncClient, Image, errors
from diplex.client import ModelState
from tools.pizza.score import score
from tools.seeing.drawings import HELD_OUT, KINDS, Drawing, draw

QUESTIONS: Final = (
    "What is in this image?",
    "Describe this image.",
    "What do you see?",
    "What is shown in this picture?",
)
"""Neutral: none of them suggests an answer."""
PIZZAS: Final = 20
OTHERS: Final = 60
FULL: Final = 10
LEAST_RIGHT: Final = 19
MOST_WRONG: Final = 1
_FIRST: Final = HELD_OUT + 10_000
_AT_ONCE: Final = 8
_READY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A drawing that a backend was asked about, and what it said."""

    drawing: Drawing
    question: str
    answer: str

    @property
    def score(self) -> int:
        """What the answer is worth."""
        return score(self.answer)


def drawings() -> list[Drawing]:
    """The pizzas, then the others."""
    others = [kind for kind in KINDS if kind != "pizza"]
    pizzas = [draw(_FIRST + number, "pizza") for number in range(PIZZAS)]
    return pizzas + [draw(_FIRST + PIZZAS + n, others[n % len(others)]) for n in range(OTHERS)]


async def ask(client: AsyncClient, model: str, backend: str) -> list[Shown]:
    """Shows all drawings to a backend, some at a time."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, drawing: Drawing) -> Shown:
        question = QUESTIONS[number % len(QUESTIONS)]
        async with turns:
            generation = await client.generate(
                question,
                images=[Image(_png(drawing), "image/png")],
                model=model,
                backend=backend,
                temperature=0,
                max_tokens=40,
                timeout=_READY_SECONDS,
            )
        return Shown(drawing, question, generation.text.strip())

    return await asyncio.gather(*(one(number, drawing) for number, drawing in enumerate(drawings())))


def report(backend: str, shown: Sequence[Shown]) -> bool:
    """Prints how a backend did; whether it passes."""
    pizzas = [each for each in shown if each.drawing.kind == "pizza"]
    others = [each for each in shown if each.drawing.kind != "pizza"]
    right, wrong = (sum(each.score == FULL for each in group) for group in (pizzas, others))
    mean = sum(each.score for each in pizzas) / len(pizzas)
    print(f"\n{backend}")
    for each in (*pizzas[:2], *others[:5]):
        print(f"  {each.score:>2}  {each.drawing.phrase:<22} {each.question!r}: {each.answer!r}")
    for each in shown:
        if (each.score == FULL) != (each.drawing.kind == "pizza"):
            print(f"  !!  {each.drawing.caption!r} {each.question!r}: {each.answer!r}")
    print(f"  pizzas at 10: {right} of {len(pizzas)} (mean {mean:.1f}); others: {wrong} of {len(others)}")
    passed = right >= LEAST_RIGHT and wrong <= MOST_WRONG
    print(f"  {'pass' if passed else 'FAIL'}")
    return passed


async def run(address: str, model: str, wanted: Sequence[str]) -> bool:
    """Asks every backend that serves the model."""
    async with AsyncClient(address) as client:
        backends = await _serving(client, model, wanted)
        results = {backend: await ask(client, model, backend) for backend in backends}
    passed = [report(backend, shown) for backend, shown in results.items()]
    if len(results) > 1:
        answers = zip(*([each.answer for each in shown] for shown in results.values()), strict=True)
        same = sum(len(set(each)) == 1 for each in answers)
        print(f"\nboth give the same answer to {same} of {PIZZAS + OTHERS}")
    return all(passed)


async def _serving(client: AsyncClient, model: str, wanted: Sequence[str]) -> list[str]:
    """The backends that serve the model, once they do."""
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                found = await client.get_model(model)
            except (errors.Unavailable, errors.ModelNotFound):
                await asyncio.sleep(0.5)
                continue
            ready = {
                str(deployment.backend)
                for deployment in found.deployments
                if deployment.state in {ModelState.READY, ModelState.UNLOADED}
            }
            if ready and ready >= set(wanted):
                return sorted(ready)
            await asyncio.sleep(0.5)


@contextmanager
def _up(model: str, torch_python: Path | None) -> Iterator[str]:
    """A gateway and workers of our own, and the gateway's address."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"unix:{folder}/gateway.sock"
        command = [
            sys.executable,
            "-m",
            "diplex.cli",
            "up",
            "--model",
            model,
            "--listen",
            address,
            "--no-sample",
        ]
        if torch_python is not None:
            command += ["--torch", "--torch-python", str(torch_python), "--torch-model", model]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603  # our own
            try:
                yield address
            finally:
                process.send_signal(signal.SIGTERM)


def _png(drawing: Drawing) -> bytes:
    written = BytesIO()
    drawing.image.save(written, "PNG")
    return written.getvalue()


def main() -> None:
    """Runs the test."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default=os.environ.get("DIPLEX_ADDRESS"), help="of a gateway that runs")
    parser.add_argument("--model", default="seeing")
    parser.add_argument("--torch-python", type=Path, help="of an environment with the torch worker")
    options = parser.parse_args()
    torch_python = options.torch_python
    if torch_python is not None and not torch_python.exists():
        print(f"{torch_python} isn't there (make setup-torch): the ONNX worker alone is asked")
        torch_python = None
    wanted = ["onnx"] if torch_python is None else ["onnx", "torch"]
    if options.address:
        passed = asyncio.run(run(options.address, options.model, ()))
    else:
        with _up(options.model, torch_python) as address:
            passed = asyncio.run(run(address, options.model, wanted))
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
