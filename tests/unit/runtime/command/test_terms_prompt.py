"""The question about a model's terms, at a real pseudo-terminal."""

import os
import pty
import subprocess
import sys

import pytest

_ASKING = """
import sys
from rich.console import Console
from workers.runtime.command.terms_prompt import agreed
from workers.runtime.catalogue import Terms
terms = Terms("tiny", "Tiny Terms", "https://example.org/terms", "You [may]." + chr(10) * 2 + "Or not.")
sys.exit(10 + agreed(Console(stderr=True), terms, "Tiny"))
"""


def answered(answer):
    """Exit code, and what was shown, when a person types ``answer``."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", _ASKING], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return child.wait(), shown.decode()


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 11), (b"n\n", 10), (b"\n", 10)])
def test_a_person_is_shown_the_terms_and_asked(answer, code):
    found, shown = answered(answer)
    assert found == code
    assert "You [may]." in shown
    assert "https://example.org/terms" in shown
    assert "Do you agree" in shown


def test_without_a_terminal_nobody_is_asked():
    done = subprocess.run(
        [sys.executable, "-c", _ASKING], input=b"y\n", capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (10, b"", b"")
