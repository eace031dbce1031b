"""``diplex health``: what containers and scripts ask. Imports nothing that it could do without."""

from __future__ import annotations

import sys

from diplex import errors
from diplex.cli.patience import PATIENCE
from diplex.client import Client, Health

_TIMEOUT = 5.0
"""Seconds that one answer may take."""


def serves(*, address: str | None, service: str, wait: float | None) -> bool:
    """Prints one line; returns whether the gateway serves.

    Args:
        address: The gateway's.
        service: Full name of a service; empty for the gateway as a whole.
        wait: Seconds to wait until it serves; ``None``: ask once.
    """
    with Client(address, patience=PATIENCE) as client:
        try:
            if wait is not None:
                client.wait_until_ready(wait, service=service)
            health = client.health(service, timeout=_TIMEOUT)
        except errors.DiplexError as error:
            sys.stderr.write(f"{error}\n")
            return False
        sys.stdout.write(f"{health}\n")
        return health is Health.SERVING
