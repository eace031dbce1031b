"""A gateway of this program's own: a ``diplex up --private`` that ends with the program, however it ends."""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from diplex import errors
from diplex.cli.lifeline import tied
from diplex.client.connection import FILE_VARIABLES, KEY_VARIABLE, TLS_VARIABLE

_LOG: Final = logging.getLogger("diplex")

TORCH_PYTHON_VARIABLE: Final = "DIPLEX_TORCH_PYTHON"
"""Environment variable that names the interpreter of an environment with the torch worker."""

_NEEDED: Final = ("gateway", "workers", "onnxruntime", "typer")
_OTHERS: Final = frozenset({"DIPLEX_CONFIG", TLS_VARIABLE, KEY_VARIABLE, *FILE_VARIABLES.values()})
_OTHERS_PREFIXES: Final = ("DIPLEX_SECURITY_", "DIPLEX_HTTP_")
_STOP_SECONDS: Final = 15.0
_KEPT_LINES: Final = 15


class EmbeddedGateway:
    """Gateway and workers in processes of their own, with the default model, on a socket of this user alone.

    Made by :meth:`start`. It ends at :meth:`close`, at the program's end, and on Linux also when the program
    is killed.

    Args:
        command: What to run. It writes JSON lines, and ``{"event": "ready", "address": …}`` once it serves.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._owner = os.getpid()
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._addresses: queue.SimpleQueue[str] = queue.SimpleQueue()  # empty: it has ended
        self.address = ""
        """Where it serves."""
        # The kernel ends the process with the thread that has started it, so that one lives as long as we do.
        self._thread = threading.Thread(target=self._run, name="diplex-embedded", daemon=True)

    @classmethod
    def start(cls) -> EmbeddedGateway:
        """Starts one and returns when it serves; the first time that takes minutes, for the model is made.

        Raises:
            DiplexError: Something isn't installed, or it can't start; says which and why.
        """
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise errors.DiplexError(
                f"no gateway is there, and none can be started here without {', '.join(missing)}: "
                "pip install 'diplex[all]', or start `diplex up` elsewhere and name it by $DIPLEX_ADDRESS"
            )
        torch = ("--torch",) if has_torch() else ()
        options = ("--private", "--no-sample", "--log-format", "json", *torch)
        return cls.run((sys.executable, "-m", "diplex.cli", "up", *options))

    @classmethod
    def run(cls, command: Sequence[str]) -> EmbeddedGateway:
        """Starts a command and returns when it serves.

        Raises:
            DiplexError: It ended before.
        """
        gateway = cls(command)
        _LOG.info("no gateway is configured or there: starting one")
        atexit.register(gateway.close)
        gateway._thread.start()  # our own
        try:
            gateway.address = gateway._addresses.get()  # our own
        except BaseException:
            gateway.close()
            raise
        if not gateway.address:
            raise errors.DiplexError(f"the gateway of this program's own did not start: {gateway.log()}")
        _LOG.info("started a gateway at %s", gateway.address)
        return gateway

    @property
    def running(self) -> bool:
        """Whether it is there still."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """The last that it has said, on several lines."""
        return "\n".join(self._lines)

    def close(self) -> None:
        """Ends it and waits until it has ended. In a process that was forked from its owner's: nothing."""
        atexit.unregister(self.close)
        process = self._process
        if process is None or os.getpid() != self._owner:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        process.kill()
        process.wait()
        self._thread.join(1.0)

    def _run(self) -> None:
        with subprocess.Popen(  # noqa: S603  # our own module
            tied(self._command),
            env=environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C in the terminal is for the program that uses us
        ) as self._process:
            assert self._process.stdout is not None  # noqa: S101  # a pipe
            for line in self._process.stdout:
                self._take(line.rstrip())
        self._addresses.put("")

    def _take(self, line: str) -> None:
        entry: Mapping[str, object] = {}
        with suppress(ValueError):
            entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("event") == "ready" and "address" in entry:
            self._addresses.put(str(entry["address"]))
        elif not entry or entry.get("level") not in {"debug", "info"}:
            self._lines.append(_readable(line, entry))


def has_torch() -> bool:
    """Whether a torch worker can be run: here, or by the interpreter that the environment names."""
    named = os.environ.get(TORCH_PYTHON_VARIABLE)
    if named:
        return Path(named).is_file()
    return all(find_spec(name) is not None for name in ("workers", "torch", "transformers", "accelerate"))


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The environment without what is meant for other gateways, and for how to reach them."""
    return {
        name: value
        for name, value in given.items()
        if name not in _OTHERS and not name.startswith(_OTHERS_PREFIXES)
    }


def _readable(line: str, entry: Mapping[str, object]) -> str:
    told = entry.get("lines")
    lines = [str(each) for each in told] if isinstance(told, list) else []
    return "\n".join([str(entry.get("event", line)), *lines])
