"""What answers questions about pictures: transformers in its own process, or Diplex by its gateway."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from diplex import Client, Image
from diplex.cli.lifeline import tied

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer."""

    first_seconds: float
    """From the call to the first token."""
    tokens_per_second: float
    """Behind the first token."""


class Engine(Protocol):
    """Answers."""

    def answer(self, image: bytes, question: str, tokens: int) -> Answered:
        """A question about a picture, in so many tokens, greedily."""


class Served:
    """A model behind a gateway.

    Args:
        client: To the gateway.
        model: Its name.
    """

    def __init__(self, client: Client, model: str) -> None:
        self._client = client
        self._model = model

    def answer(self, image: bytes, question: str, tokens: int) -> Answered:
        """See :class:`Engine`."""
        began = time.perf_counter()
        first = last = 0.0
        chat = [{"role": "user", "content": [Image(image), question]}]
        options = {"temperature": 0, "max_tokens": tokens, "min_tokens": tokens}
        with self._client.stream(chat, model=self._model, **options) as stream:
            for _ in stream:
                last = time.perf_counter()
                first = first or last
            made = stream.receipt.usage.completion_tokens
        if made != tokens:
            raise RuntimeError(f"the answer ended after {made} of {tokens} tokens")
        return Answered(first - began, (tokens - 1) / (last - first))


class Transformers:
    """The peer's process; see :mod:`benchmarks.vision.transformers_peer`.

    Args:
        python: The interpreter of its environment.
        folder: The checkpoint.
        threads: That it computes with.
    """

    def __init__(self, python: Path, folder: Path, threads: int) -> None:
        if not python.exists():
            raise FileNotFoundError(f"{python} isn't there; name a python with torch and transformers")
        module = ["-m", "benchmarks.vision.transformers_peer", str(folder), str(threads)]
        self._process = subprocess.Popen(  # noqa: S603  # our own module
            tied([str(python), *module]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1"},
            text=True,
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def answer(self, image: bytes, question: str, tokens: int) -> Answered:
        """See :class:`Engine`."""
        request = {"image": base64.b64encode(image).decode(), "question": question, "tokens": tokens}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        found = self._read()
        return Answered(found["first"], found["decode"])

    def stop(self) -> None:
        """Ends the process and gives its memory back."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("transformers has ended; what it said stands above")
        found: dict[str, float] = json.loads(line)
        return found
