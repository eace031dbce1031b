"""The fenced blocks of README.md and docs/, each with what hidden comments before it say of it.

A comment is ``<!-- NAME: VALUE -->`` or ``<!-- NAME (DETAIL): VALUE -->``, on a line of its own:

- ``not run: REASON``: the block is not run. ``not run (START; …): REASON``: commands that start so are not.
- ``exit: CODE``: with which its last command ends. Without it, all end with 0.
- ``file: NAME``: it is written to that file for the commands behind it.
- ``toml: KIND``: of what it is a part: see ``schemas.py``. Without it, of a gateway's configuration.
- ``from: PATH``: it stands in that file of the repository, in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

MARKERS = {"not run", "exit", "file", "toml", "from"}

_FENCE = re.compile(r"( *)```([^\s`]*)\s*")
_MARKER = re.compile(r" *<!-- ([a-z ]+?)(?: \((.*)\))?: (.*) -->")


@dataclass(frozen=True)
class Marker:
    """A hidden comment."""

    value: str
    detail: str = ""


@dataclass(frozen=True)
class Block:
    """A fenced block; its text has no indentation of its surroundings."""

    page: Path
    line: int
    language: str
    text: str
    markers: dict[str, Marker] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def not_run(self) -> bool:
        """Whether nothing of it is run."""
        marker = self.markers.get("not run")
        return marker is not None and not marker.detail

    @property
    def skipped(self) -> tuple[str, ...]:
        """How those of its commands begin that aren't run."""
        marker = self.markers.get("not run", Marker(""))
        return tuple(start.strip() for start in marker.detail.split(";") if start.strip())


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in their order.

    Raises:
        ValueError: A fence is not closed, or a comment says what nobody knows.
    """
    markers: dict[str, Marker] = {}
    lines = enumerate(page.read_text("utf-8").splitlines(), 1)
    for number, line in lines:
        if found := _MARKER.fullmatch(line):
            name, detail, value = found.groups()
            if name in MARKERS:
                markers[name] = Marker(value, detail or "")
        elif fence := _FENCE.fullmatch(line):
            indent, language = fence.groups()
            text = []
            for _, inside in lines:
                if inside.strip() == "```":
                    break
                text.append(inside.removeprefix(indent))
            else:
                raise ValueError(f"{page}:{number}: the block has no end")
            yield Block(page, number, language, "\n".join(text) + "\n", markers)
            markers = {}
        elif markers:
            raise ValueError(f"{page}:{number}: a comment about a block, and no block behind it")
