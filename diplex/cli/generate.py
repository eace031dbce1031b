"""``diplex generate``: one prompt, one answer, streamed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

from rich.markup import escape

from diplex import errors
from diplex.cli.pace import Pace
from diplex.cli.patience import PATIENCE
from diplex.cli.terminal import standard_error, write_text
from diplex.client import Client, GenerateOptions, RawPrompt, Stream


@dataclass(frozen=True, slots=True)
class Task:
    """What the command line asks for."""

    prompt: str | None
    """``None`` or ``-``: read from standard input."""
    raw: bool
    """Without a chat template."""
    options: GenerateOptions
    address: str | None
    timeout: float | None
    """Seconds."""
    as_json: bool
    receipt: bool | None
    """``None``: when standard error is a terminal."""


def run(task: Task) -> None:
    """Streams the answer to standard output.

    Raises:
        DiplexError: As the client raises it.
    """
    text = _prompt(task.prompt)
    with Client(task.address, patience=PATIENCE) as client:
        pace = Pace()
        source = RawPrompt(text) if task.raw else text
        with client.stream(source, timeout=task.timeout, **task.options) as stream:
            if task.as_json:
                _print_json(stream, pace)
            else:
                _print_text(stream, pace)
            wanted = sys.stderr.isatty() if task.receipt is None else task.receipt
            if wanted and not task.as_json:
                standard_error().print(f"[dim]{escape(pace.line(stream.receipt))}[/]")


def _prompt(prompt: str | None) -> str:
    if prompt is not None and prompt != "-":
        return prompt
    if prompt is None and sys.stdin.isatty():
        raise errors.InvalidRequest(
            'nothing to generate from: give a PROMPT, or pipe one in, as in: diplex generate "Hello"'
        )
    return sys.stdin.read()


def _print_text(stream: Stream, pace: Pace) -> None:
    try:
        for delta in stream:
            pace.take(delta)
            write_text(delta.text)
    finally:
        if stream.text and not stream.text.endswith("\n"):
            write_text("\n")


def _print_json(stream: Stream, pace: Pace) -> None:
    for delta in stream:
        pace.take(delta)
    generation = stream.collect()
    document = {
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "receipt": asdict(generation.receipt),
        "client": {"first_ms": pace.first_ms, "tokens_per_second": pace.tokens_per_second},
    }
    write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
