"""Who is let in, by what a call brings."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import jwt
import pytest

from diplex.api_key import new_key
from diplex.errors import PermissionDenied, Unauthenticated, Unavailable
from gateway.security import jwks
from gateway.security import tokens as tokens_module
from gateway.security.authentication import Authenticator
from gateway.security.config import SecurityConfig
from gateway.security.principal import ANYBODY, Method
from tests.fixtures.tokens import Issuer

ANN, OLD, FRESH = new_key(), new_key(), new_key()
KEYS = f"""
[[keys]]
name = "ann"
id = "{ANN.id}"
sha256 = "{ANN.sha256}"

[[keys]]
name = "old"
id = "{OLD.id}"
sha256 = "{OLD.sha256}"
expires = {(datetime.now(UTC) - timedelta(seconds=1)).isoformat()}

[[keys]]
name = "fresh"
id = "{FRESH.id}"
sha256 = "{FRESH.sha256}"
expires = {(datetime.now(UTC) + timedelta(hours=1)).isoformat()}

[roles.operators]
methods = ["generate", "operate"]

[certificates]
"batch.example" = "operators"
"""


def bearer(credential):
    return {"authorization": f"Bearer {credential}"}


@pytest.fixture
def keys_file(tmp_path):
    file = tmp_path / "keys.toml"
    file.write_text(KEYS)
    return str(file)


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
def tokens(keys_file, issuer):
    return Authenticator(
        SecurityConfig(
            keys_file=keys_file,
            jwt_jwks=str(issuer.file),
            jwt_issuer=Issuer.ISSUER,
            jwt_audience=Issuer.AUDIENCE,
            jwt_leeway_seconds=0,
        )
    )


async def test_everybody_is_let_in_where_nothing_is_asked():
    assert await Authenticator(SecurityConfig()).authenticate({}) is ANYBODY
    assert ANYBODY.rights.methods == set(Method)


@pytest.mark.parametrize(
    "headers",
    [bearer(ANN.key), {"authorization": f"bearer  {ANN.key}"}, {"x-api-key": ANN.key}],
)
async def test_a_key_by_any_header(keys_file, headers):
    principal = await Authenticator(SecurityConfig(keys_file=keys_file)).authenticate(headers)
    assert (principal.name, principal.subject) == ("ann", "key:ann")
    assert principal.rights.methods == {Method.GENERATE}


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "no key and no token"),
        ({"authorization": "Basic YTpi"}, "no key and no token"),
        (bearer(""), "no key and no token"),
        (bearer("hunter2"), "not known"),
        (bearer(new_key().key), "not known"),
        (bearer(f"dpx-{ANN.id}-{new_key().key.rpartition('-')[2]:x<43}"[:60]), "not known"),
        (bearer(OLD.key), "old has expired"),
    ],
)
async def test_what_does_not_hold(keys_file, headers, told):
    authenticator = Authenticator(SecurityConfig(keys_file=keys_file))
    with pytest.raises(Unauthenticated, match=told):
        await authenticator.authenticate(headers, certificate=())


async def test_a_key_that_has_not_expired(keys_file):
    principal = await Authenticator(SecurityConfig(keys_file=keys_file)).authenticate(bearer(FRESH.key))
    assert principal.name == "fresh"


async def test_certificates_have_roles(keys_file):
    authenticator = Authenticator(SecurityConfig(keys_file=keys_file))
    principal = await authenticator.authenticate({}, ["batch.example", "batch"])
    assert (principal.kind, principal.name) == ("certificate", "batch.example")
    assert Method.OPERATE in principal.rights.methods
    with pytest.raises(PermissionDenied, match=r"other\.example"):
        await authenticator.authenticate({}, ["other.example"])
    assert (await authenticator.authenticate(bearer(ANN.key), ["other.example"])).name == "ann"


async def test_a_certificate_suffices_without_a_keys_file():
    config = SecurityConfig(certificate_file="c", key_file="k", client_ca_file="a")
    principal = await Authenticator(config).authenticate({}, ["batch.example"])
    assert principal.rights.methods == {Method.GENERATE}


class TestTokens:
    async def test_names_its_bearer_and_its_role(self, tokens, issuer):
        principal = await tokens.authenticate(bearer(issuer.token(roles=["what", "operators"])))
        assert (principal.kind, principal.name) == ("token", "ann")
        assert Method.OPERATE in principal.rights.methods

    async def test_keys_are_taken_beside_tokens(self, tokens):
        assert (await tokens.authenticate(bearer(ANN.key))).kind == "key"

    async def test_a_role_is_needed_where_there_are_roles(self, tokens, issuer):
        with pytest.raises(PermissionDenied, match="none of the roles"):
            await tokens.authenticate(bearer(issuer.token(roles="guests")))

    @pytest.mark.parametrize(
        ("claims", "told"),
        [
            ({"expires_in": -1}, "expired"),
            ({"iss": "https://other.example"}, "issuer"),
            ({"aud": "other"}, "[Aa]udience"),
            ({"exp": None}, "exp"),
            ({"aud": None}, "aud"),
            ({"sub": None}, "'sub'"),
            ({"nbf": 4_000_000_000}, "not yet valid"),
        ],
    )
    async def test_what_does_not_hold(self, tokens, issuer, claims, told):
        with pytest.raises(Unauthenticated, match=told):
            await tokens.authenticate(bearer(issuer.token(roles="operators", **claims)))

    async def test_anothers_signature(self, tokens, tmp_path):
        folder = tmp_path / "other"
        folder.mkdir()
        with pytest.raises(Unauthenticated, match="Signature"):
            await tokens.authenticate(bearer(Issuer(folder).token(roles="operators")))

    @pytest.mark.parametrize("algorithm", ["none", "HS256"])
    async def test_no_other_algorithm(self, tokens, issuer, algorithm):
        claims = jwt.decode(issuer.token(roles="operators"), options={"verify_signature": False})
        secret = None if algorithm == "none" else issuer.file.read_text() * 2
        forged = jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": "first"})
        with pytest.raises(Unauthenticated, match="alg value"):
            await tokens.authenticate(bearer(forged))

    @pytest.mark.parametrize("rubbish", ["a.b.c", "....", "é" * 10, "x" * 20000])
    async def test_rubbish(self, tokens, rubbish):
        with pytest.raises(Unauthenticated):
            await tokens.authenticate(bearer(rubbish))

    async def test_new_keys_of_the_issuer_are_found(self, tokens, issuer, monkeypatch):
        monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
        await tokens.authenticate(bearer(issuer.token(roles="operators")))
        late = issuer.token("late", roles="operators")
        issuer.rotate("second")
        await tokens.authenticate(bearer(issuer.token(roles="operators")))
        with pytest.raises(Unauthenticated, match="doesn't publish"):
            await tokens.authenticate(bearer(late))

    async def test_the_issuers_keys_are_not_to_be_had(self, tokens, issuer):
        token = issuer.token(roles="operators")
        issuer.file.unlink()
        with pytest.raises(Unavailable):
            await tokens.authenticate(bearer(token))

    @pytest.mark.parametrize("case", [(30, 20, False), (30, 40, True), (300, 70, True)])
    async def test_a_verified_token_is_remembered_for_a_while(self, tokens, issuer, monkeypatch, case):
        expires_in, later, again = case
        monkeypatch.setattr(jwks, "_PAUSE_SECONDS", 0.0)
        token = issuer.token(roles="operators", expires_in=expires_in)
        await tokens.authenticate(bearer(token))
        issuer.rotate("second")
        monkeypatch.setattr(jwks, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 1000))
        monkeypatch.setattr(tokens_module, "time", SimpleNamespace(time=lambda: time.time() + later))
        with pytest.raises(Unauthenticated, match="doesn't publish") if again else nullcontext():
            await tokens.authenticate(bearer(token))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"certificate_file": "a"}, "key_file"),
        ({"client_ca_file": "a"}, "certificate_file"),
        ({"worker_key_file": "a"}, "worker_certificate_file"),
        ({"jwt_jwks": "a"}, "jwt_issuer"),
        ({"jwt_algorithms": ("HS256",)}, "HS256"),
        ({"jwt_algorithms": ()}, "none"),
        ({"jwt_jwks": "http://issuer.example/k", "jwt_issuer": "i", "jwt_audience": "a"}, "https"),
    ],
)
def test_settings_that_do_not_fit(settings, told):
    with pytest.raises(ValueError, match=told):
        SecurityConfig(**settings)
