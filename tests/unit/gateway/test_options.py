"""The gateway's command line as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "NO_COLOR": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gateway.toml"
    path.write_text('workers = ["unix:/nobody"]\n[log]\nlevel = "warning"\n')
    return path


def test_config_prints_values_and_sources(file):
    done = run(
        "diplex.cli", "config", "--set", "drain_seconds=5", DIPLEX_CONFIG=str(file), DIPLEX_LISTEN="unix:/x"
    )
    assert (done.returncode, done.stderr) == (0, "")
    top = done.stdout.partition("\n[")[0]
    rows = dict(line.split("  # ") for line in top.splitlines() if "  # " in line)
    told = {
        row.partition(" = ")[0]: (row.partition(" = ")[2].strip(), source) for row, source in rows.items()
    }
    assert told["listen"] == ('"unix:/x"', "DIPLEX_LISTEN")
    assert told["workers"] == ('["unix:/nobody"]', str(file))
    assert told["drain_seconds"] == ("5.0", "--set drain_seconds")
    assert told["default_model"] == ('""', "default")


def test_config_says_what_is_wrong(file):
    file.write_text('[log]\nlevel = "loud"\n')
    done = run("diplex.cli", "config", "--config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{file}: log.level: should be 'DEBUG', 'INFO'")


def test_a_gateway_does_not_start_with_what_is_wrong(file):
    done = run("gateway", "--config", str(file), "--drain-seconds", "soon", DIPLEX_MAX_MESSAGE_MIB="0")
    assert done.returncode == 2
    assert "DIPLEX_MAX_MESSAGE_MIB: max_message_mib: should be greater than 0" in done.stderr
    assert "--drain-seconds: drain_seconds: should be a valid number" in done.stderr
