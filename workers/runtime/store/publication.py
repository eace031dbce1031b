"""Folders that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from workers.runtime.progress import Phase, Progress, Report


@contextmanager
def locked(lock: Path, phase: Phase, purpose: str, report: Report) -> Iterator[None]:
    """Hold a lock among processes and threads; the system frees it when its holder dies, however it dies.

    Args:
        lock: The lock file; made if it isn't there, and left there.
        phase: The phase in which waiting is reported.
        purpose: What the lock is for, as "waiting for another process to finish …" goes on.
        report: Told once if there is something to wait for.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(lock)
    try:
        file_lock.acquire(timeout=0)
    except Timeout:
        report(Progress(phase, 0, None, f"waiting for another process to finish {purpose}"))
        file_lock.acquire()
    try:
        yield
    finally:
        file_lock.release()


@contextmanager
def published(final: Path) -> Iterator[Path]:
    """Fill a fresh folder beside ``final``; at the block's end it takes that name, in one step.

    The caller holds the lock of ``final``. If the block fails the folder is removed; if the process is
    killed, the next call removes it. What stood under the name before is replaced.
    """
    remove_leftovers(final)
    staging = _staging(final)
    staging.mkdir(parents=True)
    try:
        yield staging
        _sync_tree(staging)
        if final.exists():
            final.rename(_replaced(final))
        staging.rename(final)
        _sync(final.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    remove_leftovers(final)


def has_leftovers(final: Path) -> bool:
    """Whether a killed process left something beside ``final``."""
    return _staging(final).exists() or _replaced(final).exists()


def remove_leftovers(final: Path) -> None:
    """Remove what a killed process left beside ``final``. The caller holds the lock."""
    shutil.rmtree(_staging(final), ignore_errors=True)
    shutil.rmtree(_replaced(final), ignore_errors=True)


def _staging(final: Path) -> Path:
    return final.with_name(f".{final.name}.new")


def _replaced(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    if os.name != "posix":  # elsewhere, a file opened for reading or a folder can't be flushed
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
