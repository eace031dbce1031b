"""Who calls: the name that a client gives itself, or where it calls from. Free of imports to install."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

CLIENT_KEY: Final = "diplex-client"
"""Metadata key under which a client may name itself, so that it gets a share of its own."""

LONGEST_CLIENT: Final = 128
"""Characters of such a name."""


def is_client_name(name: object) -> bool:
    """Whether a client may call itself that: printable ASCII, of sane length."""
    return isinstance(name, str) and 0 < len(name) <= LONGEST_CLIENT and name.isascii() and name.isprintable()


def client_of(metadata: Iterable[tuple[str, str | bytes]] | None, peer: str) -> str:
    """The name that a call's metadata gives, else the host that it comes from.

    Args:
        metadata: The call's.
        peer: gRPC's name of the other side, as ``ipv4:127.0.0.1:50123``, ``ipv6:[::1]:50123`` or ``unix:``.
    """
    for key, value in metadata or ():
        if key == CLIENT_KEY and isinstance(value, str) and is_client_name(value):
            return value
    kind, _, address = unquote(peer).partition(":")
    return address.rpartition(":")[0] if kind in {"ipv4", "ipv6"} else kind
