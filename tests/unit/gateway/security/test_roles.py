"""The file with keys and roles: what may stand in it, and what it comes to."""

from __future__ import annotations

import json

import pytest

from diplex.api_key import new_key
from gateway.security import roles as roles_module
from gateway.security.principal import Method, Quota, Rate
from gateway.security.roles import InvalidKeysFile, Roles, WatchedRoles

KEY = new_key()
ENTRY = f'[[keys]]\nname = "ann"\nid = "{KEY.id}"\nsha256 = "{KEY.sha256}"\n'


@pytest.fixture
def file(tmp_path):
    return tmp_path / "keys.toml"


def test_a_key_without_more_may_generate_with_every_model(file):
    file.write_text(ENTRY)
    roles = Roles.read(str(file))
    rights = roles.rights_of_key(roles.keys[KEY.id])
    assert rights.covers("anything")
    assert rights.methods == {Method.GENERATE}
    assert not rights.quota


def test_a_key_says_more_than_its_role(file):
    file.write_text(
        ENTRY + 'role = "small"\nmodels = ["Other-*"]\n'
        '[roles.small]\nmodels = ["SmolLM2-*"]\nmethods = ["generate", "operate"]\n'
        '[roles.small.quota]\nrequests = "60/minute"\n'
        'tokens = ["1000/minute", "50000 / day"]\nconcurrent = 4\n'
    )
    roles = Roles.read(str(file))
    rights = roles.rights_of_key(roles.keys[KEY.id])
    assert rights.covers("other-1b")
    assert not rights.covers("SmolLM2-135M-Instruct")
    assert rights.methods == set(Method)
    assert rights.quota == Quota((Rate(60, 60.0),), (Rate(1000, 60.0), Rate(50000, 86400.0)), 4)


def test_the_first_role_that_is_known_counts(file):
    file.write_text('[roles.a]\nmodels = ["a"]\n[roles.b]\nmodels = ["b"]\n')
    roles = Roles.read(str(file))
    assert roles.rights_of(["unknown", "b", "a"]).models == ("b",)
    assert roles.rights_of(["unknown"]) is None
    file.write_text('[roles.default]\nmodels = ["c"]\n')
    assert Roles.read(str(file)).rights_of(["unknown"]).models == ("c",)


def test_json_is_read_too(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [{"name": "ann", "id": KEY.id, "sha256": KEY.sha256}]}))
    assert Roles.read(str(file)).keys[KEY.id].name == "ann"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("keys = 7", "keys"),
        ("no toml at all", "keys.toml"),
        (ENTRY + "colour = 1", "colour"),
        (ENTRY + 'role = "none"', "there is no role 'none'"),
        (ENTRY + ENTRY, "the same id"),
        (ENTRY + "expires = 2027-01-01T00:00:00", "time zone"),
        (ENTRY + '[keys.quota]\nrequests = "60/week"', "60/minute"),
        (ENTRY + '[keys.quota]\nrequests = "0/minute"', "60/minute"),
        (ENTRY + 'methods = ["fly"]', "methods"),
        (f'[[keys]]\nname = "ann"\nid = "{KEY.id}"\nsha256 = "{KEY.key}"', "sha256"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_told(file, text, told):
    file.write_text(text)
    with pytest.raises(InvalidKeysFile) as raised:
        Roles.read(str(file))
    assert told in str(raised.value)
    assert KEY.key not in str(raised.value)
    assert KEY.sha256 not in str(raised.value)


def test_a_file_that_is_broken_leaves_the_former_keys(file, monkeypatch):
    monkeypatch.setattr(roles_module, "_LOOK_SECONDS", 0.0)
    file.write_text(ENTRY)
    watched = WatchedRoles(str(file))
    file.write_text("broken")
    assert set(watched.current.keys) == {KEY.id}
    file.unlink()
    assert set(watched.current.keys) == {KEY.id}
    other = new_key()
    file.write_text(ENTRY.replace(KEY.id, other.id).replace(KEY.sha256, other.sha256))
    assert set(watched.current.keys) == {other.id}


def test_a_broken_file_is_an_error_at_the_start(file):
    with pytest.raises(InvalidKeysFile):
        WatchedRoles(str(file))
