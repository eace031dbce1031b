"""Names by which requests come in.

A web page may have a name that leads to its own server first and to the visitor's loopback later (DNS
rebinding); for the browser it is then the same site, whose answers it may read. Such requests have that name
in ``host``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from diplex.errors import PermissionDenied

_LONGEST_TOLD = 100


class AnyHost:
    """Lets all names in, where callers have to prove who they are."""

    def check(self, host: str) -> None:
        """Does nothing."""


class KnownHosts:
    """Lets addresses, ``localhost`` and some names in.

    Args:
        patterns: Of the names, as ``*.local``.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = ("localhost", *(pattern.lower() for pattern in patterns))

    def check(self, host: str) -> None:
        """Makes sure that a request's ``host`` header has such a name.

        Raises:
            PermissionDenied: It hasn't.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            name = host
        if not (_is_address(name) or any(fnmatchcase(name, pattern) for pattern in self._patterns)):
            raise PermissionDenied(
                f"requests for the host {name[:_LONGEST_TOLD]!r} aren't answered here without keys; ask for "
                "localhost or an address, or have the operator add the name to http.hosts"
            )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
