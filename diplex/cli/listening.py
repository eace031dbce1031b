"""Where ``diplex up`` may listen: checked before anything starts, and the worker's private socket."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diplex import errors
from diplex.cli.options import DEFAULT_HTTP_LISTEN

_PREFIX = "diplex-up-"
_YOUNG_SECONDS = 60.0
"""A folder younger than this is left alone: its owner may not hold the lock yet."""


def free_address(listen: str, option: str = "--listen") -> str:
    """``listen`` with a real port in place of port 0, if nobody listens there.

    Raises:
        InvalidRequest: It is no address.
        Unavailable: Somebody does.
    """
    if listen.startswith("unix:"):
        return _free_path(listen)
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise errors.InvalidRequest(f"{option} {listen}: must be host:port or unix:/path")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[
            0
        ]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return f"{host}:{probe.getsockname()[1]}"
    except (OSError, OverflowError) as error:
        raise errors.Unavailable(
            f"can't listen on {listen} ({getattr(error, 'strerror', None) or error}): stop what runs there, "
            f"or choose another address, as in {option} 127.0.0.1:50052"
        ) from error


def free_http_address(listen: str | None) -> str:
    """The same for HTTP; for ``None`` the usual port, or any if that is taken. Empty stays empty.

    Raises:
        InvalidRequest: It is no address.
        Unavailable: Somebody listens there.
    """
    if listen is not None:
        return listen and free_address(listen, "--http-listen")
    try:
        return free_address(DEFAULT_HTTP_LISTEN)
    except errors.Unavailable:
        return free_address(f"{DEFAULT_HTTP_LISTEN.rpartition(':')[0]}:0")


def url(listen: str) -> str:
    """What OpenAI's clients take as their base URL; the address itself of a socket, empty for nowhere."""
    if not listen or listen.startswith("unix:"):
        return listen
    return f"http://{reachable(listen)}/v1"


def page(listen: str) -> str:
    """Where people find the playground; empty for a socket, which no browser reaches, and for nowhere."""
    if not listen or listen.startswith("unix:"):
        return ""
    return f"http://{reachable(listen)}/"


def _free_path(listen: str) -> str:
    path = listen.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(path) == 0:
            raise errors.Unavailable(f"can't listen on {listen}: another process does")
    return listen


def reachable(listen: str) -> str:
    """The address at which this machine reaches a server that listens on ``listen``."""
    host, _, port = listen.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"  # noqa: S104  # not bound here


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of mode 0700 for the worker's socket, removed at the end.

    A killed process can't remove its folder, so the next one does: a folder is in use as long as its lock is
    held, which ends with the process that holds it.
    """
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with _lock_file(folder).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            state = folder.stat()
            if state.st_uid != os.getuid() or time.time() - state.st_mtime < _YOUNG_SECONDS:
                continue
            with _lock_file(folder).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        except OSError:  # in use, or somebody else was faster
            continue


def _lock_file(folder: Path) -> Path:
    return folder / "lock"
