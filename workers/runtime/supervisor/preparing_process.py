"""The other end of :mod:`workers.runtime.supervisor.preparation`: makes one artefact and ends."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from typing import Final

from diplex.errors import DiplexError, InternalError
from workers.runtime.engine.messages import HEADER_BYTES, body_length
from workers.runtime.engine.process import die_with_parent, ignore_interrupts
from workers.runtime.progress import Progress
from workers.runtime.store import Prepare, Store
from workers.runtime.supervisor.preparation import News, Order, framed

_STANDARD_OUTPUT: Final = 1
_STANDARD_ERROR: Final = 2


def main(backend: str, converter: Prepare) -> None:
    """Takes an order from standard input, and says on standard output how it goes."""
    die_with_parent()
    ignore_interrupts()
    length = body_length(sys.stdin.buffer.read(HEADER_BYTES))
    order = pickle.loads(sys.stdin.buffer.read(length))  # noqa: S301  # a private pipe from our own process
    assert isinstance(order, Order)  # noqa: S101  # nothing else is sent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Whatever a library prints goes to the log.
    news = os.fdopen(os.dup(_STANDARD_OUTPUT), "wb", buffering=0)
    os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)

    def say(message: News) -> None:
        news.write(framed(message))

    def report(progress: Progress) -> None:
        say(progress)

    try:
        say(Store(order.home, order.accepted).ensure(order.entry, backend, order.profile, converter, report))
    except DiplexError as error:
        say(error)
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor must hear of it
        traceback.print_exc()
        say(InternalError(f"{order.entry.name} could not be prepared: {type(error).__name__}: {error}"))


def _end_with_parent() -> None:
    while sys.stdin.buffer.read(1):
        pass
    os._exit(1)
