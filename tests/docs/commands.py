"""What a block of commands asks to be typed, and what it shows as the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.docs.blocks import Block

_SERVER = re.compile(r"(?:^|[ /])(?:diplex up|python -m gateway|python -m workers\.\w+ serve)\b")


@dataclass(frozen=True)
class Command:
    """One command, perhaps of several lines."""

    text: str
    shown: str = ""
    """The output that the page shows; ``…`` stands for anything. Empty: it shows none."""

    @property
    def serves(self) -> bool:
        """Whether it stays, so that what stands behind it is typed elsewhere."""
        return _SERVER.search(self.text) is not None

    def gives(self, output: str) -> bool:
        """Whether an output is what the page shows, but for spaces and ends of lines."""
        shown = [re.escape(" ".join(part.split())) for part in self.shown.split("…")]
        pattern = r"\s*.*?\s*".join(shown)
        return not self.shown or re.fullmatch(pattern, " ".join(output.split()), re.DOTALL) is not None


def commands_of(block: Block) -> list[Command]:
    """The commands of a block whose lines are typed (``sh``), or shown behind ``$`` (``console``)."""
    found = _typed(block.text) if block.language in {"sh", "bash"} else _shown(block.text)
    return [command for command in found if command.text]


def _typed(text: str) -> Iterator[Command]:
    whole = ""
    for line in text.splitlines():
        whole += line + "\n"
        if not line.endswith("\\") and whole.count("'") % 2 == 0:
            yield Command("" if whole.lstrip().startswith("#") else whole.strip())
            whole = ""
    if whole:
        raise ValueError(f"a command has no end: {whole}")


def _shown(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE):
        lines = part.splitlines()
        length = next((index for index, line in enumerate(lines, 1) if not line.endswith("\\")), 0)
        yield Command("\n".join(lines[:length]), "\n".join(lines[length:]).strip())
