"""Requests that the OpenAPI document allows, by the thousand: none may end in a server error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SECONDS = os.environ.get("HTTP_FUZZ_SECONDS")
"""Time for it; without, until every kind of request was tried."""


def test_no_request_that_the_document_allows_ends_in_a_server_error(fake_url):
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{fake_url}/openapi.json", "--url", fake_url, "--checks", "not_a_server_error"),
        *("--phases", "coverage,fuzzing", "--max-examples", "60", "--seed", "7"),
        *("--suppress-health-check", "all", "--no-color"),
        *(("--max-time", SECONDS) if SECONDS else ()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
