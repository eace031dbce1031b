"""Commands at a terminal: a pseudo-terminal with somebody who types, and a gateway without a model."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

import pytest

from tests.fake_gateway import FakeGateway

PROGRAM = """
import os
os.close(os.open(os.ttyname(0), os.O_RDWR))  # makes it this session's own terminal, whose Ctrl-C is a signal
from diplex.cli import main
main()
"""
ESCAPES = re.compile(rb"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])")

SECONDS = 10
"""How long a text may take to come."""


class Screen:
    """What a program has written to its terminal, and where keys go to it."""

    def __init__(self, descriptor):
        self._descriptor = descriptor
        self.raw = b""
        self.at = 0  # behind what was waited for, without escape sequences

    def until(self, text):
        """Reads on until the text stands behind what was waited for before."""
        deadline = time.monotonic() + SECONDS
        while (at := ESCAPES.sub(b"", self.raw).find(text.encode(), self.at)) < 0:
            left = deadline - time.monotonic()
            readable = left > 0 and select.select([self._descriptor], [], [], left)[0]
            assert readable, f"{text!r} did not come; what came is {self.raw[-2000:]!r}"
            self.raw += os.read(self._descriptor, 65536)
        self.at = at + len(text.encode())

    def press(self, keys):
        os.write(self._descriptor, keys.encode())


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def at_terminal(gateway, tmp_path):
    @contextmanager
    def start(*arguments):
        ours, its = pty.openpty()
        termios.tcsetwinsize(ours, (30, 160))
        environment = {
            **os.environ,
            "DIPLEX_ADDRESS": address,
            "XDG_STATE_HOME": str(tmp_path),
            "TERM": "xterm-256color",
        }
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            env=environment,
            stdin=its,
            stdout=its,
            stderr=its,
            start_new_session=True,
        ) as process:
            os.close(its)
            try:
                yield Screen(ours), process
            finally:
                process.kill()
                os.close(ours)

    with gateway.in_thread() as address:
        yield start


def test_a_chat_answers_stops_and_remembers(gateway, at_terminal, tmp_path):
    with at_terminal("chat") as (screen, process):
        screen.until("▸")
        screen.press("Where is Paris?\r")
        screen.until("Paris is the capital.")
        screen.until("7 (3 cached) → 5 tokens")
        gateway.cancelled.clear()
        gateway.hold_after = 2
        screen.until("▸")
        screen.press("And Rome?\r")
        screen.until("Paris is   ")
        screen.press("\x03")
        screen.until("stopped")
        assert gateway.cancelled.wait(10)
        gateway.hold_after = None
        screen.until("▸")
        screen.press("/model fake\r")
        screen.until("Fake-1M answers from here on; it sees no pictures")
        screen.until("▸")
        screen.press("\x04")
        assert process.wait(10) == 0
    asked = [[message.parts[0].text for message in request.chat.messages][1:] for request in gateway.requests]
    assert asked == [["Where is Paris?"], ["Where is Paris?", "Paris is the capital.", "And Rome?"]]
    kept = tmp_path / "diplex" / "chat_history"
    assert "+Where is Paris?" in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0


def test_top_shows_slots_and_leaves_at_q(at_terminal):
    with at_terminal("top", "--interval", "0.1") as (screen, process):
        screen.until("1 worker, 3/8 slots busy, 1 waiting, decoding 392 tokens/s")
        screen.until("████░░░░░░░░ 3/8")
        screen.press("q")
        assert process.wait(10) == 0


def test_top_leaves_at_ctrl_c(at_terminal):
    with at_terminal("top") as (screen, process):
        screen.until("q ends")
        screen.press("\x03")
        assert process.wait(10) == 0
