"""Whether an address can be reached from elsewhere, and the refusal to open one to everybody by accident."""

from __future__ import annotations

import ipaddress


class TooOpen(ValueError):
    """A server would listen for everybody without asking who calls."""


def is_public(listen: str) -> bool:
    """Whether others than this machine's own processes may reach ``host:port`` or ``unix:/path``.

    A name other than ``localhost`` counts as public, whatever it resolves to.
    """
    if listen.startswith("unix:"):
        return False
    host = listen.removeprefix("ipv4:").removeprefix("ipv6:").rpartition(":")[0].strip("[]")
    if host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return True


def require_protection(listen: str, *, protected: bool, allowed: bool, remedy: str) -> None:
    """Refuses a public address on which nobody is asked who they are.

    Args:
        listen: Where a server is to listen.
        protected: Callers have to prove who they are.
        allowed: The operator wants it open all the same.
        remedy: What to set, as a sentence.

    Raises:
        TooOpen: It is public, not protected and not allowed.
    """
    if is_public(listen) and not (protected or allowed):
        raise TooOpen(
            f"{listen} can be reached from other machines, and nobody would be asked who they are. {remedy}"
        )
