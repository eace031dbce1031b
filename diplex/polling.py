"""How gRPC waits for its sockets in a server process of ours. Imports nothing, since it must run first."""

from __future__ import annotations

import os
from typing import Final

_VARIABLE: Final = "GRPC_EXPERIMENTS"
_CLASSIC: Final = "-event_engine_client,-event_engine_listener,-event_engine_for_all_other_endpoints"


def poll_without_event_engine() -> None:
    """Lets the thread that waits for completions read the sockets too; call it before grpc is imported.

    By default gRPC's event engine reads them in a pool of threads of its own: each message then wakes three
    threads instead of two, on cores that an engine computes on. Whoever sets ``GRPC_EXPERIMENTS`` has the
    last word. See ``docs/decisions/0009-messages-on-a-beat.md``.
    """
    os.environ.setdefault(_VARIABLE, _CLASSIC)
