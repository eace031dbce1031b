"""``diplex keys new``, and how the other commands use keys and certificates."""

import os
import subprocess
import sys
import tomllib

import pytest

from diplex import api_key
from tests.fake_gateway import FakeGateway
from tests.fixtures.certificates import Authority

COMMAND = (sys.executable, "-m", "diplex.cli")


def diplex(*arguments, **environment):
    return subprocess.run(
        [*COMMAND, *arguments],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_a_new_key_and_its_entry():
    done = diplex("keys", "new", 'team "a"', "--role", "small", "--days", "3")
    [entry] = tomllib.loads(done.stdout)["keys"]
    key = done.stderr.strip()
    assert api_key.id_of(key) == entry["id"]
    assert api_key.matches(key, entry["sha256"])
    assert (entry["name"], entry["role"]) == ('team "a"', "small")
    assert entry["expires"].tzinfo is not None
    assert key not in done.stdout


def test_a_name_that_can_not_be_used():
    done = diplex("keys", "new", "")
    assert done.returncode == 2
    assert "name" in done.stderr


@pytest.fixture
def gateway():
    return FakeGateway()


def test_commands_send_the_key(gateway, tmp_path):
    file = tmp_path / "key"
    file.write_text("from a file\n")
    with gateway.in_thread() as address:
        diplex("generate", "hi", "--address", address, DIPLEX_API_KEY="from a variable")
        diplex("--api-key-file", str(file), "generate", "hi", "--address", address)
        diplex("generate", "hi", "--address", address)
    assert gateway.authorizations == ["Bearer from a variable", "Bearer from a file", None]


def test_a_key_file_that_is_not_there(tmp_path):
    done = diplex("--api-key-file", str(tmp_path / "none"), "models")
    assert done.returncode == 2
    assert "none" in done.stderr


def test_commands_talk_tls(gateway, tmp_path):
    authority = Authority(tmp_path)
    with gateway.in_thread(tls=authority.server()) as address:
        done = diplex("--tls-ca-file", authority.file, "health", "--address", address)
        assert (done.returncode, done.stdout) == (0, "serving\n")
        assert diplex("health", "--address", address, DIPLEX_CA_FILE=authority.file).returncode == 0
        plain = diplex("health", "--address", address)
        assert plain.returncode == 1
        untrusted = diplex("--tls", "generate", "hi", "--address", address)
        assert untrusted.returncode == 3
        assert "certificate" in untrusted.stderr.lower()
        missing = diplex("--tls-ca-file", str(tmp_path / "none"), "generate", "hi", "--address", address)
        assert missing.returncode == 2
        assert "none" in missing.stderr
