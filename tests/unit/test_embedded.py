"""A gateway that belongs to a program: started by it, ended with it. What runs here only says it serves."""

import subprocess
import sys

import psutil
import pytest

from diplex import errors
from diplex.embedded import EmbeddedGateway, environment

SERVES = """
import json, signal
print("a warning of a library", flush=True)
print(json.dumps({"event": "ready", "level": "info", "address": "unix:/here"}), flush=True)
signal.pause()
"""
FAILS = """
import json, sys
print(json.dumps({"event": "pulling", "level": "info"}))
print(json.dumps({"event": "worker exited with code 1", "level": "warning", "lines": ["no memory"]}))
sys.exit(1)
"""
OWNER = f"""
import sys
from diplex.embedded import EmbeddedGateway
gateway = EmbeddedGateway.run([sys.executable, "-c", {SERVES!r}])
print(gateway._process.pid, flush=True)
sys.stdin.read()
"""


def test_it_serves_until_it_is_closed():
    gateway = EmbeddedGateway.run([sys.executable, "-c", SERVES])
    assert gateway.address == "unix:/here"
    assert gateway.running
    assert gateway.log() == "a warning of a library"
    gateway.close()
    assert not gateway.running


def test_why_it_did_not_start_is_said():
    with pytest.raises(errors.DiplexError) as raised:
        EmbeddedGateway.run([sys.executable, "-c", FAILS])
    assert raised.value.message.endswith("did not start: worker exited with code 1\nno memory")


@pytest.mark.parametrize("end", ["its end", "SIGKILL"])
def test_it_ends_with_its_owner(end):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        gateway = psutil.Process(int(owner.stdout.readline()))
        if end == "its end":
            owner.stdin.close()
        else:
            owner.kill()
        _, alive = psutil.wait_procs([gateway], timeout=10)
        assert not alive


def test_what_is_meant_for_other_gateways_is_kept_from_it():
    given = {
        "PATH": "/bin",
        "DIPLEX_HOME": "/models",
        "DIPLEX_TLS": "1",
        "DIPLEX_API_KEY": "secret",
        "DIPLEX_CONFIG": "gateway.toml",
        "DIPLEX_SECURITY_KEYS_FILE": "keys.toml",
        "DIPLEX_HTTP_LISTEN": "0.0.0.0:80",
    }
    assert environment(given) == {"PATH": "/bin", "DIPLEX_HOME": "/models"}
