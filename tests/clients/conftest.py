"""A gateway for clients that live in an environment of their own; run by ``make test-openai``.

The gateway is a process of the usual environment, whose interpreter ``SERVING_PYTHON`` names.
"""

from __future__ import annotations

import subprocess

import pytest

from tests.served import PYTHON, ROOT, serving

MODEL = "SmolLM2-135M-Instruct"
DRAW = """
import sys
from tools.seeing.drawings import HELD_OUT, draw
draw(HELD_OUT + 20_000, sys.argv[1], square=True).image.save(sys.stdout.buffer, "PNG")
"""


@pytest.fixture(scope="session")
def url():
    """Base URL of a gateway with the default model."""
    listen = ("--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
    up = ("diplex.cli", "up", *listen, "--model", MODEL, "--log-format", "json")
    with serving(*up, event="ready", key="url") as address:
        yield address


@pytest.fixture(scope="session")
def fake_url():
    """URL of a gateway whose worker has no model, and says two words."""
    with serving("tests.clients.fake", event="serving", key="url") as address:
        yield address


@pytest.fixture(scope="session")
def drawing():
    """Makes an encoded picture of a thing that the small seeing model knows."""

    def draw(kind):
        return subprocess.run([PYTHON, "-c", DRAW, kind], cwd=ROOT, capture_output=True, check=True).stdout

    return draw
