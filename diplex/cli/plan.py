"""``diplex plan``: who would serve a request."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diplex.cli.patience import PATIENCE
from diplex.cli.terminal import PIPED_WIDTH
from diplex.client import Candidate, Client, GenerateOptions


def run(*, model: str | None, backend: str | None, address: str | None, as_json: bool) -> None:
    """Prints the candidates, best first.

    Raises:
        DiplexError: As the client raises it.
    """
    options: GenerateOptions = {"model": model, "backend": backend}
    with Client(address, patience=PATIENCE) as client:
        candidates = client.plan("Hi", timeout=10, **options)
    if as_json:
        found = [asdict(candidate) for candidate in candidates]
        sys.stdout.write(json.dumps(found, ensure_ascii=False, indent=2) + "\n")
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(_table(candidates))


def _table(candidates: tuple[Candidate, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False, header_style="dim")
    for heading in ("", "model", "backend", "precision", "worker", "why"):
        table.add_column(heading)
    best = next((candidate for candidate in candidates if candidate.can_serve), None)
    for each in candidates:
        mark = "[green]serves[/]" if each is best else "could" if each.can_serve else "[dim]can't[/]"
        table.add_row(
            mark,
            f"[bold]{escape(each.model)}[/]",
            each.backend,
            each.precision,
            each.worker,
            escape(each.reason),
        )
    return table
