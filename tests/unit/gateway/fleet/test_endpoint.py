"""How users say where workers are."""

from __future__ import annotations

import pytest

from gateway.config import GatewayConfig
from gateway.fleet.endpoint import Endpoint, Name, parse


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:50061", "[::1]:50061", "unix:/run/worker.sock", "localhost:50061", "ipv4:10.0.0.1:1"],
)
def test_taken_as_they_are(text):
    assert parse(text) == Endpoint(text)


def test_dns_scheme_of_an_address_goes():
    assert parse("dns:///127.0.0.1:50061") == Endpoint("127.0.0.1:50061")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("worker:50061", "worker"),
        ("dns:///worker:50061", "worker"),
        ("worker.default.svc.cluster.local:50061", "worker.default.svc.cluster.local"),
        ("dns:///localhost:50061", "localhost"),
    ],
)
def test_names(text, host):
    assert parse(text) == Name(host, 50061)


def test_endpoints_of_names_keep_the_name():
    name = Name("worker", 50061)
    assert name.endpoint("10.0.0.1") == Endpoint("10.0.0.1:50061", "worker")
    assert name.endpoint("fd00::1") == Endpoint("[fd00::1]:50061", "worker")


@pytest.mark.parametrize(
    "text",
    ["worker", "worker:", "worker:http", "worker:0", "worker:70000", ":50061", "", "dns:///", "::1:50061"],
)
def test_what_is_wrong_is_refused_at_the_start(text):
    with pytest.raises(ValueError, match="host:port"):
        GatewayConfig(workers=(text,))
