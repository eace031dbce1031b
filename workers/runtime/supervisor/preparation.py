"""A process that downloads and converts one model, as its supervisor sees it.

A process of its own, because converting takes memory that Python doesn't give back, and because it can be
killed at any moment: the store bears that, and so does whoever asks for the model the next time.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from diplex.errors import DiplexError, Unavailable
from workers.runtime.catalogue import ModelEntry
from workers.runtime.engine.messages import HEADER_BYTES, body_length
from workers.runtime.progress import Progress, Report
from workers.runtime.store import PreparedArtefact


@dataclass(frozen=True, slots=True)
class Order:
    """What such a process is to make; the first and only thing that it is told."""

    home: Path
    """The store."""
    entry: ModelEntry
    profile: str
    accepted: frozenset[str] = frozenset()
    """Names of models' terms that the worker agrees to."""


News = Progress | PreparedArtefact | DiplexError
"""What it says: how far it is, and at the end the artefact or why there is none."""


def framed(message: Order | News) -> bytes:
    """A message as four bytes of length and a pickle: the pipe is private to two processes of ours."""
    body = pickle.dumps(message, protocol=5)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


async def prepared_by(command: Sequence[str], order: Order, report: Report) -> PreparedArtefact:
    """Runs such a process to its end, and ends it when the task is cancelled.

    Raises:
        Unavailable: It died.
        DiplexError: It can't make the artefact; says why.
    """
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  # both are pipes
    try:
        with suppress(ConnectionError):  # it is dead; the end of its output says so
            process.stdin.write(framed(order))
            await process.stdin.drain()
        while True:
            match await _news(process.stdout):
                case Progress() as progress:
                    report(progress)
                case PreparedArtefact() as artefact:
                    return artefact
                case DiplexError() as error:
                    raise error
    except asyncio.IncompleteReadError:
        code = await process.wait()
        raise _death(order, code) from None
    finally:
        process.stdin.close()
        await _end(process)


async def _news(stream: asyncio.StreamReader) -> News:
    header = await stream.readexactly(HEADER_BYTES)
    body = await stream.readexactly(body_length(header))
    news: News = pickle.loads(body)  # noqa: S301  # a private pipe to our own process
    return news


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # Not through the process object, whose `kill` takes the exit code away from asyncio's child watcher.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()


def _death(order: Order, code: int) -> Unavailable:
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})"
    memory = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
    return Unavailable(
        f"the process that prepared {order.entry.name}/{order.profile} {how}{memory}; "
        "what it had downloaded is kept: try again",
        retry_after=1.0,
    )
