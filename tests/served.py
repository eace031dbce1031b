"""A server of the usual environment, for tests that run in an environment of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = os.environ.get("SERVING_PYTHON", str(ROOT / ".venv/bin/python"))


@contextmanager
def serving(*module, event, key):
    """What the log of a process says at the event; the process ends behind."""
    with subprocess.Popen(
        [PYTHON, "-m", *module], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        lines = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("{") and json.loads(line).get("event") == event:
                    yield json.loads(line)[key]
                    return
            pytest.fail(f"{module} ended:\n{''.join(lines)}")
        finally:
            process.send_signal(signal.SIGTERM)
            # What it still says must not fill the pipe.
            process.communicate(timeout=60)
