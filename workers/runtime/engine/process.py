"""The engine process: loads one model, then serves its supervisor over a socket until that closes.

One thread owns the model and runs the steps; this module's reader thread and a small pool for tokenisation
stand beside it. The process never outlives its supervisor: it ends when the socket does, and on Linux the
kernel ends it with its parent.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Final

from diplex.errors import DiplexError, InternalError
from workers.runtime.artefact import TOKENIZER_FILE, ModelDescription
from workers.runtime.engine.backend import Backend
from workers.runtime.engine.intake import Closed, InboxItem, Intake
from workers.runtime.engine.loop import Engine
from workers.runtime.engine.memory import engine_limits
from workers.runtime.engine.messages import (
    HEADER_BYTES,
    EngineConfig,
    Failed,
    FromEngine,
    Ready,
    ToEngine,
    body_length,
    pack,
    unpack,
)
from workers.runtime.engine.model_text import ModelText
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.vision import Gallery, Viewer

BackendFactory = Callable[[ModelDescription, EngineConfig], Backend]
"""Loads a prepared artefact; what an ONNX or a torch worker brings."""

MEBIBYTE: Final = 2**20
_PR_SET_PDEATHSIG: Final = 1


def main(load_backend: BackendFactory) -> None:
    """Runs an engine over the socket whose descriptor is the first argument; returns when it closes."""
    die_with_parent()
    ignore_interrupts()
    connection = Connection(socket.socket(fileno=int(sys.argv[1])))
    config = connection.receive()
    if not isinstance(config, EngineConfig):
        return
    try:
        engine, intake, ready = _load(config, load_backend, connection.send)
    except Exception as error:  # noqa: BLE001  # whatever it is, the supervisor must hear of it
        connection.send(Failed(_explained(error)))
        return
    reader = threading.Thread(target=_read, args=(connection, intake), name="reader", daemon=True)
    reader.start()
    connection.send(ready)
    gc.freeze()  # what a load leaves lives as long as the process: no step shall wait for a look through it
    try:
        engine.run()
    except BaseException:  # noqa: BLE001  # told in the log; the supervisor sees that the process ends
        traceback.print_exc()
        os._exit(1)
    # Threads of the pool and of native code must not delay the end, in either case.
    os._exit(0)


class Connection:
    """Framed messages over the socket to the supervisor. One thread reads; any may send."""

    def __init__(self, peer: socket.socket) -> None:
        self._socket = peer
        self._input = peer.makefile("rb")
        self._sending = threading.Lock()

    def receive(self) -> ToEngine | FromEngine | None:
        """The next message; ``None`` when the supervisor has closed the socket, maybe in the middle."""
        try:
            header = self._input.read(HEADER_BYTES)
            if len(header) < HEADER_BYTES:
                return None
            length = body_length(header)
            body = self._input.read(length)
        except OSError:  # closed while something of ours was still unread there
            return None
        return unpack(body) if len(body) == length else None

    def send(self, message: FromEngine) -> None:
        """Sends a message; a supervisor that is gone is noticed by :meth:`receive`."""
        frame = pack(message)
        with self._sending:
            try:
                self._socket.sendall(frame)
            except OSError:
                return


def _load(
    config: EngineConfig, load_backend: BackendFactory, send: Callable[[FromEngine], None]
) -> tuple[Engine, Intake, Ready]:
    description = ModelDescription.load(config.folder)
    if description.chat_template is None:
        description = replace(description, chat_template=config.chat_template)
    backend = load_backend(description, config)
    text = ModelText(
        Tokenizer.from_file(config.folder / TOKENIZER_FILE), description, _viewer(backend, config)
    )
    limits = engine_limits(config, description, backend.max_length, backend.stages)
    inbox: SimpleQueue[InboxItem] = SimpleQueue()
    intake = Intake(text, max_length=limits.max_length, inbox=inbox, send=send)
    engine = Engine(backend, text, config, limits, inbox=inbox, send=send)
    return engine, intake, Ready(config.slots, limits.max_length, limits.kv_tokens)


def _viewer(backend: Backend, config: EngineConfig) -> Viewer | None:
    """What looks at pictures, if the backend has eyes."""
    if (eyes := backend.eyes) is None:
        return None
    return Viewer(eyes.preprocessor, Gallery(config.image_cache_mib * MEBIBYTE, eyes.row_bytes))


def _read(connection: Connection, intake: Intake) -> None:
    try:
        while (message := connection.receive()) is not None:
            intake.take(message)
    finally:
        intake.inbox.put(Closed())


def _explained(error: Exception) -> DiplexError:
    if isinstance(error, DiplexError):
        return error
    traceback.print_exc()
    return InternalError(f"the engine could not load the model: {type(error).__name__}: {error}")


def ignore_interrupts() -> None:
    """Leaves it to the supervisor when the process ends.

    A Ctrl-C in the terminal reaches the whole group, and so does the SIGTERM of some process managers;
    running requests are to end first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def die_with_parent() -> None:
    """Asks the kernel (Linux) for SIGKILL when the supervisor dies, however it dies: prctl(2).

    A supervisor that is dead already has closed its end of the socket, which ends the process too.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
