"""Gateway and worker as an operator secures them, and what their logs tell of it."""

from __future__ import annotations

import secrets
import signal
from contextlib import suppress

import pytest

from diplex import errors
from diplex.api_key import new_key
from diplex.client import Client, Tls
from tests.e2e import services
from tests.fixtures.certificates import Authority
from tests.fixtures.tokens import Issuer

ANN, WRONG = new_key(), new_key()
WORD = "xylophonequartz"
"""In every prompt."""


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "certificates")


@pytest.fixture
def issuer(tmp_path):
    return Issuer(tmp_path)


@pytest.fixture
def token_file(tmp_path):
    file = tmp_path / "worker-token"
    file.write_text(secrets.token_urlsafe(32))
    return file


@pytest.fixture
def worker(authority, token_file, tiny_home, tiny_catalogue):
    tls = authority.server("worker", "127.0.0.1", client_ca=authority.file)
    options = (
        *("--tls-certificate-file", tls.certificate_file, "--tls-key-file", tls.key_file),
        *("--tls-client-ca-file", tls.client_ca_file, "--gateway-name", "gateway.example"),
        *("--gateway-token-file", token_file, "--model", "tiny-llama/fp32"),
        *("--home", tiny_home, "--catalogue", tiny_catalogue),
    )
    with services.worker("127.0.0.1:0", *options) as process:
        yield process


@pytest.fixture
def gateway(worker, authority, issuer, token_file, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(
        f'[[keys]]\nname = "ann"\nid = "{ANN.id}"\nsha256 = "{ANN.sha256}"\nmodels = ["tiny-*"]\n'
        "[roles.none]\nmodels = []\n[roles.default]\n"
    )
    edge = authority.server("edge")
    certificate, key = authority.issue("gateway", "gateway.example")
    settings = {
        "certificate_file": edge.certificate_file,
        "key_file": edge.key_file,
        "keys_file": keys,
        "jwt_jwks": issuer.file,
        "jwt_issuer": issuer.ISSUER,
        "jwt_audience": issuer.AUDIENCE,
        "jwt_leeway_seconds": "0",
        "worker_ca_file": authority.file,
        "worker_certificate_file": certificate,
        "worker_key_file": key,
        "worker_token_file": token_file,
    }
    options = [part for name, value in settings.items() for part in ("--set", f"security.{name}={value}")]
    with services.gateway(worker.address, *options, "--log-level", "DEBUG") as process:
        with Client(process.address, api_key=ANN.key, tls=Tls(authority.file)) as client:
            client.wait_until_ready(services.READY_SECONDS)
        yield process


def test_the_logs_hold_no_secrets_and_no_prompts(gateway, worker, authority, issuer, token_file):
    tokens = [issuer.token("bob"), issuer.token("bob", expires_in=-5), issuer.token("bob", roles=["none"])]
    told = {}

    def call(name, credential, **options):
        with Client(gateway.address, api_key=credential, tls=Tls(authority.file)) as client:
            try:
                told[name] = client.generate(
                    f"{WORD} {WORD}", **{"max_tokens": 12, "temperature": 0} | options
                )
            except errors.DiplexError as error:
                told[name] = error

    call("answer", ANN.key)
    call("by token", tokens[0])
    call("wrong key", WRONG.key)
    call("no key", None)
    call("expired token", tokens[1])
    call("no right", tokens[2])
    call("no such field", ANN.key, temperature=-1.0)
    call("no such model", ANN.key, model="nothing")
    call("too long", ANN.key, max_tokens=100_000)
    call("no time", ANN.key, timeout=0.001)
    with (
        Client(gateway.address, api_key=ANN.key, tls=Tls(authority.file)) as client,
        # Nobody takes the lost worker's place, and the gateway need not wait for that to its end.
        client.stream(f"{WORD} stream", max_tokens=400, temperature=0, timeout=10) as stream,
        suppress(errors.DiplexError),
    ):
        next(iter(stream))
        worker.send(signal.SIGKILL)
        for _ in stream:
            pass
    assert isinstance(told["wrong key"], errors.Unauthenticated)
    assert isinstance(told["no key"], errors.Unauthenticated)
    assert isinstance(told["expired token"], errors.Unauthenticated)
    assert isinstance(told["no right"], errors.PermissionDenied)
    assert isinstance(told["no such field"], errors.InvalidRequest)
    assert told["by token"].text == told["answer"].text
    gateway.send(signal.SIGTERM)
    gateway.wait()
    worker.process.wait(services.STOP_SECONDS)

    logs = gateway.log + worker.log
    assert logs.count("UNAUTHENTICATED") >= 3
    assert '"principal": "ann"' in gateway.log
    secret = [ANN.key, ANN.sha256, WRONG.key, *tokens, token_file.read_text(), WORD, told["answer"].text]
    secret += [key.split("-", 2)[2] for key in (ANN.key, WRONG.key)]  # which may have dashes itself
    assert [text for text in secret if text in logs] == []


@pytest.mark.parametrize(
    ("start", "remedy"),
    [
        (lambda: services.gateway("127.0.0.1:1", listen="0.0.0.0:0"), "security.keys_file"),
        (lambda: services.worker("0.0.0.0:0", "--model", "tiny-llama"), "--gateway-token-file"),
    ],
)
def test_nothing_is_opened_to_everybody_by_accident(start, remedy):
    with start() as process:
        assert process.wait() != 0
        assert remedy in process.log
        assert "0.0.0.0:0 can be reached from other machines" in process.log
