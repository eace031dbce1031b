"""Shows a model's terms to a person at a terminal, and asks."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from workers.runtime.catalogue import Terms


def agreed(console: Console, terms: Terms, model: str) -> bool:
    """Show the terms and ask; ``False`` without asking if nobody is there to answer.

    Args:
        console: Where the person reads.
        terms: What is to be agreed to.
        model: Whose terms they are.
    """
    if not (sys.stdin.isatty() and console.is_terminal):
        return False
    console.print(terms.text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"{model} is provided under the {terms.title}, above and at {terms.url}.", highlight=False)
    return typer.confirm("Do you agree to them?", default=False, err=True)
