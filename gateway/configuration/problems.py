"""What is wrong with a configuration, all of it at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class InvalidConfiguration(ValueError):
    """A configuration can't be used; the message has a line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Says that a name is unknown, and which known one may be meant."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    hint = f"; did you mean {close[0]}?" if close else "; `diplex config --reference` lists what there is"
    return f"unknown {what} {name}{hint}"
