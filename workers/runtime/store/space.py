"""Room on the disk: asked for before, and explained when it ran out all the same."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from diplex.errors import InsufficientStorage

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def require(root: Path, needed: int, purpose: str) -> None:
    """Make sure that the disk has room before work begins.

    Args:
        root: The store's folder, which exists.
        needed: Bytes.
        purpose: What needs them, as "there is no room to …" goes on.

    Raises:
        InsufficientStorage: It has less.
    """
    if shutil.disk_usage(root).free < needed:
        raise _error(root, purpose, needed)


@contextmanager
def explained(root: Path, purpose: str) -> Iterator[None]:
    """Turn a disk that runs full within the block into an error that says what to do.

    Raises:
        InsufficientStorage: The disk, or the user's share of it, is full.
    """
    try:
        yield
    except InsufficientStorage:  # explained already, further in
        raise
    except Exception as error:
        if is_full(error):
            raise _error(root, purpose, None) from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is at the bottom of it; libraries wrap the system's error in their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _error(root: Path, purpose: str, needed: int | None) -> InsufficientStorage:
    free = shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free
    amount = f"; {_megabytes(needed)} are needed" if needed is not None else ""
    return InsufficientStorage(
        f"there is no room to {purpose}: {_megabytes(free)} are free on the disk of {root}{amount}; "
        "free some, or set DIPLEX_HOME to a folder on a larger disk",
        metadata={"free_bytes": str(free)} | ({"needed_bytes": str(needed)} if needed is not None else {}),
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
