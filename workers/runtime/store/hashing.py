"""Digests of files, with progress."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from workers.runtime.progress import Phase, Progress, Report, silent

CHUNK = 1 << 20
"""Bytes read at a time: enough that Python's share of the work is nothing."""


def chunks(stream: IO[bytes], total: int | None, detail: str, report: Report) -> Iterator[bytes]:
    """The stream's bytes, reported as they pass, in the VERIFY phase."""
    done = 0
    report(Progress(Phase.VERIFY, 0, total, detail))
    while chunk := stream.read(CHUNK):
        done += len(chunk)
        yield chunk
        report(Progress(Phase.VERIFY, done, total, detail))


def file_sha256(path: Path, report: Report = silent) -> str:
    """The file's sha256, 64 lower-case hex digits.

    Raises:
        OSError: The file can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in chunks(stream, path.stat().st_size, path.name, report):
            digest.update(chunk)
    return digest.hexdigest()
