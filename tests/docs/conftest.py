"""The documents, followed to the letter: ``make test-docs``."""

from __future__ import annotations

import pytest

from tests.docs import sandbox
from tests.docs.sandbox import Sandbox
from tests.fixtures.tiny_llama import write_tiny_llama
from tools.seeing.drawings import HELD_OUT, draw

READY_SECONDS = 120

_COUNTS = pytest.StashKey[dict[str, int]]()


@pytest.fixture(scope="session")
def count(request):
    """Counts blocks by what became of them; shown at the end."""
    counts = request.config.stash.setdefault(_COUNTS, {})

    def add(fate, number=1):
        counts[fate] = counts.get(fate, 0) + number

    return add


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(_COUNTS, {})
    if counts:
        told = ", ".join(f"{number} {fate}" for fate, number in sorted(counts.items()))
        terminalreporter.section("blocks of the documents")
        terminalreporter.write_line(told)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A user's home, whose store has the default model."""
    home = tmp_path_factory.mktemp("home")
    sandbox.link_store(home / "store")
    return home


@pytest.fixture
def folder(tmp_path):
    """A working folder with all that commands of the documents take for there."""
    (tmp_path / ".venv").symlink_to(sandbox.BIN.parent)
    for number, name in enumerate(("lunch.jpg", "before.png", "after.png")):
        draw(HELD_OUT + number, "pizza").image.save(tmp_path / name)
    write_tiny_llama(tmp_path / "my-model.gguf")
    return tmp_path


@pytest.fixture(scope="session")
def up(home):
    """The words that run a command in the network where ``diplex up`` serves at its usual ports."""
    with sandbox.network() as enter, Sandbox(enter, home, home).start("diplex up") as running:
        running.line(lambda line: line.startswith("ready at "), timeout=READY_SECONDS)
        yield enter
