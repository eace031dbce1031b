"""Every block of README.md and docs/ is run, read, or says why not."""

import json
import signal
from contextlib import ExitStack

import pytest
import yaml

from tests.docs import schemas
from tests.docs.blocks import PAGES, ROOT, blocks_of
from tests.docs.commands import commands_of
from tests.docs.conftest import READY_SECONDS
from tests.docs.notebook import Notebook
from tests.docs.sandbox import Sandbox, network

COMMANDS = {"bash", "console", "sh"}
QUOTED = {"go", "java", "javascript", "proto"}
"""Parts of files, which are checked as a whole elsewhere."""
KNOWN = COMMANDS | QUOTED | {"json", "python", "text", "toml", "yaml"}

WITH_BLOCKS = [page for page in PAGES if list(blocks_of(page))]


def test_there_are_blocks():
    assert {"README.md", "quickstart.md", "languages.md"} <= {page.name for page in WITH_BLOCKS}


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_every_block_is_checked_or_says_why_not(page, count):
    for block in blocks_of(page):
        if block.not_run:
            count("not run")
            assert len(block.markers["not run"].value) > 10, f"{block.place}: give the reason"
            continue
        assert block.language in KNOWN, (
            f"{block.place}: nobody checks '{block.language}'; put <!-- not run: REASON --> before it"
        )
        if block.language in QUOTED:
            assert "from" in block.markers, f"{block.place}: name its file: <!-- from: PATH -->"
        count(
            "quoted"
            if block.language in QUOTED
            else "drawings"
            if block.language == "text"
            else "run or read"
        )


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: page.name)
def test_blocks_hold(page, request, home, folder, count):
    with ExitStack() as until_end:
        hold(page, _Place(request, home, folder, count, until_end))


def hold(page, place):
    for block in blocks_of(page):
        if block.not_run or block.language == "text":
            continue
        if "file" in block.markers:
            (place.folder / block.markers["file"].value).write_text(block.text, "utf-8")
        if block.language in QUOTED:
            assert block.text in (ROOT / block.markers["from"].value).read_text("utf-8"), block.place
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            list(yaml.safe_load_all(block.text))
        elif block.language == "toml":
            kind = block.markers["toml"].value if "toml" in block.markers else "gateway"
            schemas.check(block.text, kind, place.folder)
        elif block.language == "python":
            assert place.python(block) == ""
        else:
            place.follow(block)


class _Place:
    """Where a page's commands are typed: beside `diplex up`, or, with servers, in a network of their own."""

    def __init__(self, request, home, folder, count, until_end):
        self.folder = folder
        self._request, self._home, self._count, self._until_end = request, home, count, until_end
        self._notebook = None

    def usual(self):
        return Sandbox(self._request.getfixturevalue("up"), self._home, self.folder)

    def python(self, block):
        """Runs a block behind the page's others; returns how it failed, empty if it didn't."""
        if self._notebook is None:
            self._notebook = self._until_end.enter_context(Notebook(self.usual()))
        return self._notebook.run(block.text, block.place)

    def follow(self, block):
        commands, skipped = commands_of(block), block.skipped
        assert commands, f"{block.place}: no commands"
        idle = [start for start in skipped if not any(each.text.startswith(start) for each in commands)]
        assert idle == [], f"{block.place}: no command begins so"
        wanted = [each for each in commands if not (skipped and each.text.startswith(skipped))]
        self._count("commands not run", len(commands) - len(wanted))
        self._count("commands run", len(wanted))
        code = int(block.markers["exit"].value) if "exit" in block.markers else 0
        if code or not any(each.serves for each in wanted):
            self._type(self.usual(), wanted, code, block)
            return
        with network() as enter, ExitStack() as servers:
            self._serve(Sandbox(enter, self._home, self.folder), wanted, servers, block)

    def _type(self, sandbox, commands, code, block):
        for command in commands:
            done = sandbox.shell(command.text)
            wanted = code if command is commands[-1] else 0
            said = f"{block.place}: {command.text}\nended with {done.returncode}:\n{done.stdout}"
            assert done.returncode == wanted, said
            assert command.gives(done.stdout), said

    def _serve(self, sandbox, commands, servers, block):
        """Starts what stays, types the rest while it runs, and ends it, which must end well."""
        running, worker = [], False
        for command in commands:
            if not command.serves:
                self._type(sandbox, [command], 0, block)
                continue
            server = servers.enter_context(sandbox.start(command.text))
            ready = "ready at " if "diplex up" in command.text else '"event": "listening"'
            doors = 2 if "--http-listen" in command.text else 1
            server.line(lambda line, ready=ready: ready in line, nth=doors, timeout=READY_SECONDS)
            running.append((command, server))
            if worker and "-m gateway" in command.text:
                # As a reader would, who waits until both have found each other.
                assert sandbox.shell(f"diplex health --wait {READY_SECONDS}").returncode == 0, server.log
            worker = worker or "-m workers." in command.text
        for command, server in reversed(running):
            assert server.process.poll() is None, f"{block.place}: {command.text}\n{server.log}"
            server.process.terminate()
            # The signal itself ends what has only just begun to listen.
            assert server.wait() in {0, -signal.SIGTERM}, f"{block.place}: {command.text}\n{server.log}"
