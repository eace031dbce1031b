"""Where workers are: addresses as users write them, and the endpoints that they come to."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

_DNS: Final = "dns:///"
_STATIC_SCHEMES: Final = ("unix:", "ipv4:", "ipv6:")
_MOST_PORT: Final = 65_535
_FORMS: Final = "host:port, [ipv6]:port, dns:///name:port or unix:/path is meant"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One worker's place."""

    address: str
    """What gRPC connects to: ``host:port`` or ``unix:/path``; identifies the worker in the gateway."""
    host: str = ""
    """The name that the address was found under, which a certificate would name; empty for an address that
    was given as it is."""


@dataclass(frozen=True, slots=True)
class Name:
    """A DNS name with a port, behind which there may be any number of workers."""

    host: str
    port: int

    def endpoint(self, ip: str) -> Endpoint:
        """The endpoint of one of its addresses."""
        return Endpoint(f"[{ip}]:{self.port}" if ":" in ip else f"{ip}:{self.port}", self.host)


def parse(text: str) -> Endpoint | Name:
    """What a user means by a worker's address.

    Names are resolved by the gateway, again and again. ``unix:/path``, IP addresses and ``localhost`` are
    taken as they are; ``dns:///localhost:port`` has even that name resolved.

    Raises:
        ValueError: It is neither; the message says what is missing.
    """
    if text.startswith(_STATIC_SCHEMES):
        return Endpoint(text)
    host, port = _split(text.removeprefix(_DNS), text)
    if _is_ip(host) or (host == "localhost" and not text.startswith(_DNS)):
        return Endpoint(text.removeprefix(_DNS))
    return Name(host, port)


def _split(rest: str, text: str) -> tuple[str, int]:
    host, _, port = rest.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= _MOST_PORT):
        raise ValueError(f"worker address {text!r} has no port; {_FORMS}")
    if not host or "/" in host or (":" in host and not host.startswith("[")):
        raise ValueError(f"worker address {text!r} can't be read; {_FORMS}")
    return host, int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
