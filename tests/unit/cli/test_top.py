"""``diplex top`` in a pipe."""

import os
import subprocess
import sys

from tests.fake_gateway import FakeGateway


def test_lines_for_a_pipe():
    with FakeGateway().in_thread() as address:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "diplex.cli",
                "top",
                "--count",
                "2",
                "--interval",
                "0.1",
                "--address",
                address,
            ],
            env=os.environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    head, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert head[1:6] == ["model", "backend", "precision", "state", "MiB"]
    assert [row[1] for row in rows] == ["Fake-1M", "Broken-7B"] * 2
    assert rows[0][6:9] == ["3/8", "1", "392"]
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
